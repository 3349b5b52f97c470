#include <doctest/doctest.h>
#include <weft/weft.h>

#include <string>

namespace weft {
namespace {

TEST_CASE("einops: the same pattern with other shapes and sizes is planned anew") {
  const Tensor x = arange(24);
  for (int64_t h : {2, 3, 4, 6, 2, 3}) {
    CHECK(rearrange(x, "(h w) -> h w", {{"h", h}}).shape() == Shape{h, 24 / h});
    CHECK(rearrange(x, "(h w) -> h w", {{"w", h}}).shape() == Shape{24 / h, h});
    CHECK(rearrange(x.reshape({h, -1}), "h w -> (w h)").shape() == Shape{24});
  }
  CHECK_THROWS_AS(rearrange(x, "(h w) -> h w", {{"h", 5}}), Error);
  CHECK_THROWS_AS(rearrange(x, "(h w) -> h w", {{"h", 5}}), Error);  // a plan that failed is not kept
  CHECK_THROWS_AS(rearrange(x.reshape({4, 6}), "a b -> a"), Error);
  CHECK(reduce(x.reshape({4, 6}), "a b -> a", sum).shape() == Shape{4});
}

TEST_CASE("einops: views where strides allow, the input itself where nothing changes") {
  const Tensor x = arange(24).reshape({2, 3, 4});
  CHECK(rearrange(x, "b n d -> b n d").same_as(x));
  CHECK(rearrange(x, "b n (h d) -> b h n d", {{"h", 2}}).impl().storage == x.impl().storage);
  CHECK(repeat(x, "b n d -> r b n d", {{"r", 5}}).impl().storage == x.impl().storage);
  CHECK(rearrange(x, "b n d -> n (b d)").impl().storage != x.impl().storage);
}

TEST_CASE("einops: a reducer that uses patterns itself") {
  const Reducer twice = [](const Tensor& x, const Dims& dims, bool keep) {
    return sum(reduce(x, "a b c -> a b c", amax), dims, keep);
  };
  CHECK(reduce(ones({2, 3, 4}), "a b c -> a", twice).to_vector() == std::vector<float>{12, 12});
}

TEST_CASE("einops and einsum: long and strange patterns are errors") {
  const Tensor x = zeros({2, 3});
  for (const std::string& text : {std::string(100000, '('), std::string(100000, 'a'), std::string(100000, '.'),
                                  std::string("\0 -> \xff", 6), "a b -> " + std::string(100000, ' ') + "c",
                                  std::string(1000, '1') + " b -> b", std::string("->"), std::string()}) {
    for (const auto kind : {detail::EinopsKind::rearrange, detail::EinopsKind::repeat, detail::EinopsKind::reduce})
      CHECK_THROWS_AS(detail::plan_einops(kind, text, x.shape(), {}), Error);
    if (text != "->") CHECK_THROWS_AS(detail::plan_einsum(text, {x.shape()}), Error);
  }
  std::string many;
  for (int i = 0; i < 1000; ++i) many += "a" + std::to_string(i) + " ";
  CHECK_THROWS_WITH_AS(rearrange(x, many + "->" + many),
                       doctest::Contains("rearrange: more than 64 names in 'a0 a1 a2"), Error);
}

TEST_CASE("einsum: a chain is multiplied in the cheapest order") {
  // Left to right the first product alone would have 10^10 elements.
  const Tensor a = ones({100000, 1}), b = ones({1, 100000}), c = ones({100000, 1});
  CHECK(einsum("ij,jk,kl->il", a, b, c).shape() == Shape{100000, 1});
  CHECK(einsum("ij,jk,kl->", a, b, c).item() == 1e10);
}

TEST_CASE("einsum: in mixed precision operands take the scope's dtype") {
  const Autocast scope(bfloat16);
  CHECK(einsum("ij,jk->ik", ones({2, 3}), ones({3, 2}, {.dtype = bfloat16})).dtype() == bfloat16);
}

}  // namespace
}  // namespace weft

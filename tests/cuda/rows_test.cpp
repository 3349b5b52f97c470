// Kernels that work on rows, on a GPU against the CPU: sizes that are odd, that fill no pack, that need each of the
// kernels' forms; memory that was full of NaN before; and the same bits from run to run.
#include <doctest/doctest.h>
#include <weft/weft.h>

#include "support/message_of.h"
#include "support/walker.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#ifdef WEFT_CUDA
#include <weft/cuda/runtime.h>

using namespace weft;
using namespace weft::test;

namespace {

using Call = std::function<Tensors(const Tensors&)>;

bool gpu() {
  if (cuda::device_count() > 0) return true;
  MESSAGE("there is no GPU: skipped");
  return false;
}

// What the pool hands out next is full of NaN: an element that a kernel leaves out shows.
void poison(Device device) {
  if (device.is_cpu()) return;
  for (int64_t n : {1 << 10, 1 << 16, 1 << 20}) full({n}, std::nan(""), {.device = device});
}

// Results and gradients of f at x on a device, all on the CPU again.
Tensors run(const Call& f, const Tensors& x0, Device device) {
  Tensors x, out, y, dy, wanted;
  for (const Tensor& t : x0) {
    x.push_back(t.defined() ? t.detach().to(device).clone() : t);
    if (t.defined() && t.is_floating()) wanted.push_back(x.back().requires_grad_());
  }
  poison(device);
  for (const Tensor& t : f(x)) {
    out.push_back(t.detach().cpu());
    if (!t.requires_grad()) continue;
    y.push_back(t), dy.push_back(values(t.shape(), 900 + y.size()).to(t.dtype()).to(device));
  }
  if (!y.empty()) {
    poison(device);
    for (const Tensor& g : grad(y, wanted, dy, {.allow_unused = true}))
      out.push_back(g.defined() ? g.cpu() : zeros({1}, {.device = Device::cpu()}));
  }
  return out;
}

bool same_bits(const Tensor& a, const Tensor& b) {
  const Tensor x = a.contiguous(), y = b.contiguous();
  return x.shape() == y.shape() && x.dtype() == y.dtype() &&
         std::memcmp(x.raw_data(), y.raw_data(), static_cast<size_t>(x.numel()) * size_of(x.dtype())) == 0;
}

// f on the GPU as on the CPU, and twice the same. least: a bound below which no result needs to agree, for a float32
// result that is made of numbers rounded to less.
void compare(const std::string& what, const Call& f, const Tensors& x, double factor = 1, double least = 0) {
  CAPTURE(what);
  try {
    const Tensors want = run(f, x, Device::cpu()), got = run(f, x, Device::cuda()), again = run(f, x, Device::cuda());
    REQUIRE(got.size() == want.size());
    for (size_t i = 0; i < want.size(); ++i) {
      CAPTURE(i);
      const double error = relative_error(got[i], want[i]);
      CHECK_MESSAGE(error <= std::max(factor * tolerance(got[i].dtype()), least), what, ": result ", i, " of ",
                    want.size(), ", ", std::string(name(got[i].dtype())), ", is off by ", error);
      CHECK_MESSAGE(same_bits(got[i], again[i]), what, ": result ", i, " changes from run to run");
    }
  } catch (const std::exception& e) {
    FAIL_CHECK(what << ": " << e.what());
  }
}

std::string label(const char* op, DType dtype, const Shape& shape) { return concat(op, " ", dtype, " ", shape); }

const DType kFloats[] = {float32, bfloat16, float16, float64};

// One for each form of a row: a warp with little and much, single elements, a block with little and much, several
// passes, and lengths that leave most threads without work.
const Shape kRows[] = {{5, 3},    {300, 64},  {37, 255},  {21, 384}, {33, 256},  {1000, 768}, {7, 1000},
                       {9, 1025}, {70, 2048}, {11, 3000}, {3, 8192}, {3, 10007}, {2, 16384}};

}  // namespace

TEST_CASE("cuda rows: norms") {
  if (!gpu()) return;
  for (DType d : kFloats) {
    for (const Shape& s : kRows) {
      const Tensor x = values(s, 1).to(d), w = values({s[1]}, 2), b = values({s[1]}, 3);
      for (DType p : {d, float32}) {
        if (p != d && d == float64) continue;
        compare(label("layer_norm", d, s),
                [&](const Tensors& t) -> Tensors { return {layer_norm(t[0], {t[0].size(-1)}, t[1], t[2])}; },
                {x, w.to(p), b.to(p)});
      }
      compare(label("layer_norm, plain,", d, s),
              [](const Tensors& t) -> Tensors { return {layer_norm(t[0], {t[0].size(-1)})}; }, {x});
      compare(label("rms_norm", d, s),
              [](const Tensors& t) -> Tensors { return {rms_norm(t[0], {t[0].size(-1)}, t[1])}; }, {x, w.to(d)});
      compare(label("add_layer_norm", d, s),
              [](const Tensors& t) -> Tensors {
                const auto [sum, y] = add_layer_norm(t[0], t[1], {t[0].size(-1)}, t[2], t[3]);
                return {sum, y};
              },
              {x, values(s, 10).to(d), w.to(d), b.to(d)});
      compare(label("layer_norm, weight offset,", d, s),
              [](const Tensors& t) -> Tensors { return {layer_norm(t[0], {t[0].size(-1)}, t[1], {}, 1e-5, 1)}; },
              {x, w.to(d)});
      compare(label("add_layer_norm, weight offset,", d, s),
              [](const Tensors& t) -> Tensors {
                const auto [sum, y] = add_layer_norm(t[0], t[1], {t[0].size(-1)}, t[2], t[3], 1e-5, 1);
                return {sum, y};
              },
              {x, values(s, 10).to(d), w.to(d), b.to(d)});
      compare(label("scale_norm", d, s), [](const Tensors& t) -> Tensors { return {scale_norm(t[0], t[1])}; },
              {x, values({1}, 4).to(d)});
      compare(label("normalize", d, s), [](const Tensors& t) -> Tensors { return {normalize(t[0], -1)}; }, {x});
    }
    compare(label("group_norm", d, {3, 12, 7, 5}),
            [](const Tensors& t) -> Tensors { return {group_norm(t[0], 4, t[1], t[2])}; },
            {values({3, 12, 7, 5}, 5).to(d), values({12}, 6).to(d), values({12}, 7).to(d)});
  }
  const Tensor far = values({64, 768}, 8) + 1000.0;  // a mean far from 0: two passes over the row, not Σ x²
  compare(
      "layer_norm far from 0", [](const Tensors& t) -> Tensors { return {layer_norm(t[0], {768})}; }, {far.to(float32)},
      50);
  const Tensor base = values({1 + 40 * 512}, 9).to(float32);  // rows that begin between 16-byte addresses
  compare("layer_norm of an odd offset",
          [](const Tensors& t) -> Tensors {
            return {layer_norm(t[0].slice(0, 1).reshape({40, 512}), {512})};
          },
          {base});
}

TEST_CASE("cuda rows: softmax") {
  if (!gpu()) return;
  for (DType d : kFloats) {
    for (const Shape& s : kRows) {
      const Tensor x = (values(s, 11) * 3.0).to(d);
      Tensor mask = gt(values({s[0], s[1]}, 12), 0);
      mask.slice(0, 0, 1).fill_(false);  // a row without any entry
      const Tensor line = gt(values({s[1]}, 13), -1);
      compare(label("softmax", d, s), [](const Tensors& t) -> Tensors { return {softmax(t[0], -1)}; }, {x});
      compare(label("log_softmax", d, s), [](const Tensors& t) -> Tensors { return {log_softmax(t[0], -1)}; }, {x});
      compare(label("softmax, masked,", d, s), [](const Tensors& t) -> Tensors { return {softmax(t[0], t[1], -1)}; },
              {x, mask});
      compare(label("softmax, masked by column,", d, s),
              [](const Tensors& t) -> Tensors { return {softmax(t[0], t[1], -1)}; }, {x, line});
    }
  }
  for (int64_t n : {70, 3001, 20000}) {  // NaN and infinity spread over their row alone
    Tensor x = values({4, n}, 14).to(float32);
    x.select(0, 1).slice(0, 5, 6).fill_(std::nan(""));
    x.select(0, 2).slice(0, n - 1).fill_(std::numeric_limits<double>::infinity());
    const Tensor cpu = isnan(softmax(x, -1)), gpu = isnan(softmax(x.to(Device::cuda()), -1)).cpu();
    CHECK_MESSAGE(all(eq(cpu, gpu)).item<int64_t>() == 1, "NaN in rows of ", n);
  }
}

TEST_CASE("cuda rows: cross entropy") {
  if (!gpu()) return;
  Generator g(3);
  for (DType d : kFloats) {
    for (const Shape& s :
         {Shape{6, 2}, {300, 64}, {33, 257}, {50, 1024}, {17, 1025}, {9, 5003}, {5, 50257}, {2, 70001}}) {
      const Tensor x = (values(s, 21) * 3.0).to(d), w = values({s[1]}, 22, 0.5, 2).to(d == float64 ? d : float32);
      Tensor target = randint(0, s[1], {s[0]}, {.dtype = int64}, g);
      target.slice(0, 1, 2).fill_(-100);
      for (double smoothing : {0.0, 0.1}) {
        for (Reduction r : {Reduction::none, Reduction::mean}) {
          const auto f = [&](const Tensors& t) -> Tensors {
            return {cross_entropy(
                t[0], t[1],
                {.weight = t[2].defined() ? t[2].detach() : t[2], .label_smoothing = smoothing, .reduction = r})};
          };
          compare(label("cross_entropy", d, s), f, {x, target, Tensor()});
          compare(label("cross_entropy, weighted,", d, s), f, {x, target, w});
        }
      }
    }
  }
}

TEST_CASE("cuda rows: the projection with its loss, and gradients over logits") {
  if (!gpu()) return;
  Generator g(5);
  for (DType d : {float32, bfloat16, float64}) {
    const double logits =
        d == bfloat16 ? 2e-3 : 0;  // each is rounded to 2⁻⁹ of itself: the loss is float32 all the same
    for (const auto& [rows, width, classes] : {std::array<int64_t, 3>{70, 24, 1000}, {33, 16, 5003}, {300, 40, 257}}) {
      Tensor target = randint(0, classes, {rows}, {.dtype = int64}, g);
      target.slice(0, 1, 2).fill_(-100);
      const Tensors x{values({rows, width}, 51).to(d), (values({classes, width}, 52) * 0.3).to(d), target,
                      values({classes}, 53).to(d)};
      for (Reduction r : {Reduction::mean, Reduction::none}) {
        for (int64_t chunk : {0, 32}) {
          compare(
              concat("linear_cross_entropy ", d, " ", rows, "x", width, "x", classes, " by ", chunk),
              [=](const Tensors& t) -> Tensors {
                return {linear_cross_entropy(t[0], t[1], t[2], {.label_smoothing = 0.1, .reduction = r}, t[3], chunk)};
              },
              x, 1, logits);
        }
      }
      if (d != float64)
        compare(
            concat("linear_cross_entropy, no bias, ", d),
            [](const Tensors& t) -> Tensors { return {linear_cross_entropy(t[0], t[1], t[2])}; }, {x[0], x[1], target},
            1, logits);
    }
    for (int64_t classes : {5, 1000, 1025, 50257, 70001}) {
      const Tensor target = randint(0, classes, {9}, {.dtype = int64}, g);
      compare(concat("cross_entropy_ ", d, " of ", classes),
              [=](const Tensors& t) -> Tensors { return {cross_entropy_(mul(t[0], 2.0), t[1])}; },
              {values({9, classes}, 54).to(d), target});
    }
  }
}

TEST_CASE("cuda rows: rotary") {
  if (!gpu()) return;
  for (DType d : kFloats) {
    const DType c = d == float64 ? float64 : float32;
    for (RotaryPairs pairs : {RotaryPairs::neighbours, RotaryPairs::halves}) {
      for (const auto& [features, turning] :
           {std::pair<int64_t, int64_t>{64, 64}, {64, 32}, {64, 20}, {37, 14}, {128, 64}}) {
        const Tensor angles = (values({2, 50, turning / 2}, 61) * 100.0).to(c);
        compare(
            concat("rotary ", d, " ", turning, " of ", features),
            [=](const Tensors& t) -> Tensors { return {rotary(t[0], t[1], {.pairs = pairs})}; },
            {values({2, 3, 50, features}, 62).to(d), angles.select(0, 0).contiguous()}, 5);
        compare(
            concat("rotary of a batch, scaled, ", d, " ", turning, " of ", features),
            [=](const Tensors& t) -> Tensors {
              return {rotary(t[0], t[1], {.pairs = pairs, .seq_dim = -3, .scale = t[2]})};
            },
            {values({2, 50, 3, features}, 63).to(d), angles, values({2, 50, turning / 2}, 64, 0.5, 2).to(c)}, 5);
      }
    }
  }
}

TEST_CASE("cuda rows: heads that scale, shift and turn") {
  if (!gpu()) return;
  for (DType d : kFloats) {
    const DType c = d == float64 ? float64 : float32;
    for (const auto& [features, pairs, heads] :
         {std::array<int64_t, 3>{128, 16, 4}, {128, 0, 2}, {64, 32, 1}, {37, 7, 4}, {72, 10, 9}}) {
      const Tensor angles = (values({50, pairs}, 61) * 100.0).to(c);
      compare(
          concat("heads ", d, " ", heads, " of ", features, ", ", pairs, " pairs"),
          [=](const Tensors& t) { return affine_heads(t[0], t[1], t[2], angles.to(t[0].device())); },
          {values({7, 50, features}, 62).to(d), values({heads, features}, 63).to(c),
           values({heads, features}, 64).to(c)},
          20);
      const auto from_odd_address = [](const Tensors& t) {
        return affine_heads(t[0].narrow(0, 1, 30), t[1].narrow(0, 1, 3), t[2].narrow(0, 1, 3));
      };
      compare(concat("heads at odd addresses ", d), from_odd_address,
              {values({32, features}, 65).to(d), values({4, features}, 66).to(c), values({4, features}, 67).to(c)}, 20);
    }
  }
}

TEST_CASE("cuda rows: reading and adding by index") {
  if (!gpu()) return;
  Generator g(4);
  for (DType d : {float32, bfloat16, float64}) {
    for (int64_t width : {1, 3, 64, 130, 256}) {
      for (const auto& [vocabulary, count] :
           {std::pair<int64_t, int64_t>{9001, 3000}, {256, 5000}, {7, 3000}, {1, 999}}) {
        const Tensor ids = randint(0, vocabulary, {count}, {.dtype = int64}, g);
        compare(
            concat(label("embedding", d, {vocabulary, width}), " by ", count),
            [&](const Tensors& t) -> Tensors { return {embedding(t[1], t[0])}; },
            {values({vocabulary, width}, 31).to(d), ids}, 3);
      }
    }
  }
  const Tensor x = values({6, 40, 33}, 32).to(float32);
  for (int64_t dim : {0, 1, 2}) {
    const Tensor line = randint(0, x.size(dim), {70}, {.dtype = int64}, g);
    Shape shape = x.shape();
    shape[dim] = 70;
    const Tensor full = randint(0, x.size(dim), shape, {.dtype = int64}, g);
    compare(concat("index_select ", dim), [=](const Tensors& t) -> Tensors { return {index_select(t[0], dim, t[1])}; },
            {x, line});
    compare(concat("gather ", dim), [=](const Tensors& t) -> Tensors { return {gather(t[0], dim, t[1])}; }, {x, full});
    compare(concat("index_add ", dim), [=](const Tensors& t) -> Tensors { return {index_add(t[0], dim, t[1], t[2])}; },
            {x, line, values(shape, 33).to(float32)});
    compare(concat("scatter_add ", dim),
            [=](const Tensors& t) -> Tensors { return {scatter_add(t[0], dim, t[1], t[2])}; },
            {x, full, values(shape, 34).to(float32)});
    compare(concat("scatter ", dim), [=](const Tensors& t) -> Tensors { return {scatter(t[0], dim, t[1], t[2])}; },
            {x, full, values(shape, 35).to(float32)});
    compare(concat("index_copy ", dim),
            [=](const Tensors& t) -> Tensors { return {index_copy(t[0], dim, t[1], t[2])}; },
            {x, line, values(shape, 36).to(float32)});
    const Tensor whole = randint(0, 1000, x.shape(), {.dtype = int64}, g);
    compare(concat("scatter_add of integers ", dim),
            [=](const Tensors& t) -> Tensors { return {scatter_add(t[0], dim, t[1], t[2])}; },
            {whole, full, randint(0, 1000, shape, {.dtype = int64}, g)});
  }
  // One lane, many places; and rows that a batch shares the index of.
  compare(
      "scatter_add of a line", [](const Tensors& t) -> Tensors { return {scatter_add(t[0], 0, t[1], t[2])}; },
      {values({1000}, 37).to(float32), randint(0, 1000, {100'000}, {.dtype = int64}, g),
       values({100'000}, 38).to(float32)},
      3);
  compare("gather of rows of a batch",
          [](const Tensors& t) -> Tensors {
            return {gather(t[0], 1, expand(unsqueeze(t[1], -1), {3, 90, 64}))};
          },
          {values({3, 50, 64}, 39).to(float32), randint(0, 50, {3, 90}, {.dtype = int64}, g)});
  for (int64_t n : {1, 1000, 300'001}) {
    const Tensor hit = gt(values({n}, 40), 1);
    compare(concat("nonzero of ", n), [](const Tensors& t) -> Tensors { return {nonzero(t[0])}; }, {hit});
  }
}

TEST_CASE("cuda rows: an index out of range is reported by the next call that waits") {
  if (!gpu()) return;
  const auto message = [](auto&& f) { return message_of([&] { f(), cuda::synchronize(); }); };
  const auto ids = [](std::vector<int64_t> v) { return tensor(v).to(Device::cuda()); };
  const TensorOptions on{.device = Device::cuda()};
  const Tensor x = zeros({4, 3}, on);
  CHECK(message([&] { embedding(ids({1, 4}), x); }) == "embedding: index 4 is out of range for dim 0 of size 4");
  CHECK(message([&] {
          index_select(x, 1, ids({0, -1}));
        }) == "index_select: index -1 is out of range for dim 1 of size 3");
  CHECK(message([&] { index(x, {ids({-5})}); }) == "index: index -5 is out of range for dim 0 of size 4");
  CHECK(message([&] {
          index_add(x, 0, ids({9}), zeros({1, 3}, on));
        }) == "index_add: index 9 is out of range for dim 0 of size 4");
  const Tensor many = ids(std::vector<int64_t>(100, 4));
  CHECK(message([&] {
          index_add(x, 0, many, zeros({100, 3}, on));
        }) == "index_add: index 4 is out of range for dim 0 of size 4");
  CHECK(message([&] {
          cross_entropy(x, ids({0, 1, 2, 3}));
        }) == "cross_entropy: target 3 is out of range for 3 classes");
  CHECK(message([&] { cross_entropy(x, ids({0, 1, 2, 2})); }) == "");
}

#endif  // WEFT_CUDA

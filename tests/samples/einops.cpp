#include "support/sample.h"

#include <algorithm>
#include <numeric>

namespace weft::test {

namespace {

using From = std::function<Index(const Index&)>;

struct Family {
  SampleList& list;

  // The result has shape out and takes its elements from where from says.
  void add(const char* op, const char* pattern, const Shape& in, const std::function<Tensor(const Tensor&)>& call,
           const Shape& out, const From& from) {
    list.samples.push_back({.op = op,
                            .variant = pattern,
                            .inputs = {values(in, 1)},
                            .call = [=](const Tensors& x) -> Tensors { return {call(x[0])}; },
                            .reference = [=](const Tensors& x) -> Tensors {
                              return {make_at(out, [&](const Index& i) { return at(x[0], from(i)); })};
                            }});
  }
  void rearrange(const char* pattern, const Shape& in, const AxisSizes& sizes, const Shape& out, const From& from) {
    add(
        "rearrange", pattern, in, [=](const Tensor& x) { return weft::rearrange(x, pattern, sizes); }, out, from);
  }
  void repeat(const char* pattern, const Shape& in, const AxisSizes& sizes, const Shape& out, const From& from) {
    add(
        "repeat", pattern, in, [=](const Tensor& x) { return weft::repeat(x, pattern, sizes); }, out, from);
  }
  // f over the elements of x at from(i, j) for every j in a box of the shape of inner.
  void reduce(const char* pattern, const Shape& in, Reducer reducer, const AxisSizes& sizes, const Shape& out,
              const Shape& inner, const std::function<Index(const Index& i, const Index& j)>& from,
              const std::function<double(const std::vector<double>&)>& f) {
    list.samples.push_back(
        {.op = "reduce",
         .variant = pattern,
         .inputs = {values(in, 1)},
         .call = [=](const Tensors& x) -> Tensors { return {weft::reduce(x[0], pattern, reducer, sizes)}; },
         .reference = [=](const Tensors& x) -> Tensors {
           return {make_at(out, [&](const Index& i) {
             std::vector<double> v;
             make_at(inner, [&](const Index& j) { return v.push_back(at(x[0], from(i, j))), 0.0; });
             return f(v);
           })};
         }});
  }
  void error(const char* pattern, const Shape& shape, const AxisSizes& sizes, const char* message) {
    list.errors.push_back({"rearrange", [=] { weft::rearrange(zeros(shape), pattern, sizes); }, message});
  }
};

void rearrangements(Family f) {
  f.rearrange("b (h w) c -> b c h w", {2, 12, 3}, {{"h", 4}}, {2, 3, 4, 3}, [](const Index& i) -> Index {
    return {i[0], i[2] * 3 + i[3], i[1]};
  });
  f.rearrange("b n (h d) -> b h n d", {2, 3, 8}, {{"h", 2}}, {2, 2, 3, 4}, [](const Index& i) -> Index {
    return {i[0], i[2], i[1] * 4 + i[3]};
  });
  f.rearrange("b h n d -> b n (h d)", {2, 2, 3, 4}, {}, {2, 3, 8}, [](const Index& i) -> Index {
    return {i[0], i[2] / 4, i[1], i[2] % 4};
  });
  f.rearrange("b c (h p1) (w p2) -> b (h w) (p1 p2 c)", {1, 3, 4, 6}, {{"p1", 2}, {"p2", 3}}, {1, 4, 18},
              [](const Index& i) -> Index {
                return {i[0], i[2] % 3, i[1] / 2 * 2 + i[2] / 9, i[1] % 2 * 3 + i[2] / 3 % 3};
              });
  f.rearrange("... d -> d ...", {2, 3, 4}, {}, {4, 2, 3}, [](const Index& i) -> Index { return {i[1], i[2], i[0]}; });
  f.rearrange("b ... d -> b (... d)", {2, 3, 4, 5}, {}, {2, 60}, [](const Index& i) -> Index {
    return {i[0], i[1] / 20, i[1] / 5 % 4, i[1] % 5};
  });
  f.rearrange("... -> (...)", {2, 3}, {}, {6}, [](const Index& i) -> Index { return {i[0] / 3, i[0] % 3}; });
  f.rearrange("... -> ... 1", {}, {}, {1}, [](const Index&) -> Index { return {}; });
  f.rearrange("a 1 b -> b () a 1", {3, 1, 4}, {}, {4, 1, 3, 1}, [](const Index& i) -> Index {
    return {i[2], 0, i[0]};
  });
  f.rearrange("(a 1) -> a", {3}, {}, {3}, [](const Index& i) { return i; });
  f.rearrange("a_1 B2->B2 a_1", {3, 2}, {}, {2, 3}, [](const Index& i) -> Index { return {i[1], i[0]}; });
  f.rearrange(" -> 1", {}, {}, {1}, [](const Index&) -> Index { return {}; });
  f.rearrange("a (b c) -> c (a b)", {0, 6}, {{"b", 2}}, {3, 0}, [](const Index& i) { return i; });

  f.error("a b", {2, 3}, {}, "rearrange: no '->' in 'a b' for shape [2, 3]");
  f.error("a b -> b a -> a", {2, 3}, {},
          "rearrange: unexpected '-' at position 11 in 'a b -> b a -> a' for shape [2, 3]");
  f.error("a, b -> b a", {2, 3}, {}, "rearrange: unexpected ',' at position 1 in 'a, b -> b a' for shape [2, 3]");
  f.error("a (b -> a b", {2, 3}, {}, "rearrange: '(' without ')' in 'a (b -> a b' for shape [2, 3]");
  f.error("a b) -> a b", {2, 3}, {}, "rearrange: ')' without '(' at position 3 in 'a b) -> a b' for shape [2, 3]");
  f.error("((a b)) -> a b", {6}, {},
          "rearrange: '(' inside parentheses at position 1 in '((a b)) -> a b' for shape [6]");
  f.error("a b c -> c b a", {2, 3}, {}, "rearrange: expected 3 dimensions, got 2 in 'a b c -> c b a' for shape [2, 3]");
  f.error("a ... b c -> ... a b c", {2, 3}, {},
          "rearrange: expected at least 3 dimensions, got 2 in 'a ... b c -> ... a b c' for shape [2, 3]");
  f.error("a b -> a", {2, 3}, {}, "rearrange: 'b' is only on the left in 'a b -> a' for shape [2, 3]");
  f.error("a b -> a b c", {2, 3}, {}, "rearrange: 'c' is only on the right in 'a b -> a b c' for shape [2, 3]");
  f.error("a a -> a", {2, 2}, {}, "rearrange: 'a' is twice on the left in 'a a -> a' for shape [2, 2]");
  f.error("a b -> a b a", {2, 3}, {}, "rearrange: 'a' is twice on the right in 'a b -> a b a' for shape [2, 3]");
  f.error("a ... -> a", {2, 3}, {}, "rearrange: '...' only on the left in 'a ... -> a' for shape [2, 3]");
  f.error("a b -> a b ...", {2, 3}, {}, "rearrange: '...' only on the right in 'a b -> a b ...' for shape [2, 3]");
  f.error("(a ...) -> a ...", {6}, {},
          "rearrange: '...' in parentheses on the left in '(a ...) -> a ...' for shape [6]");
  f.error("... ... -> ...", {6}, {}, "rearrange: more than one '...' on the left in '... ... -> ...' for shape [6]");
  f.error("(h w) c -> h w c", {5, 3}, {{"h", 2}},
          "rearrange: (h w) cannot divide dimension 0 in '(h w) c -> h w c' for shape [5, 3] with h = 2");
  f.error("(h w) c -> h w c", {6, 3}, {{"h", 2}, {"w", 2}},
          "rearrange: (h w) does not fit dimension 0 in '(h w) c -> h w c' for shape [6, 3] with h = 2, w = 2");
  f.error("(h w) -> h w", {6}, {}, "rearrange: sizes of both 'h' and 'w' are missing in '(h w) -> h w' for shape [6]");
  f.error("(h w) -> h w", {0}, {{"h", 0}},
          "rearrange: (h w) cannot divide dimension 0 in '(h w) -> h w' for shape [0] with h = 0");
  f.error("a 1 -> a", {2, 3}, {}, "rearrange: 1 does not fit dimension 1 in 'a 1 -> a' for shape [2, 3]");
  f.error("a -> a 2", {2}, {}, "rearrange: a length other than 1, 2, on the right in 'a -> a 2' for shape [2]");
  f.error("a -> 0 a", {2}, {}, "rearrange: '0' is neither a name nor a length in 'a -> 0 a' for shape [2]");
  f.error("a -> 2b a", {2}, {}, "rearrange: '2b' is neither a name nor a length in 'a -> 2b a' for shape [2]");
  f.error("a -> a", {2}, {{"b", 2}}, "rearrange: a size for 'b', which is not in 'a -> a' for shape [2] with b = 2");
  f.error("a -> a", {2}, {{"a", 2}, {"a", 2}},
          "rearrange: two sizes for 'a' in 'a -> a' for shape [2] with a = 2, a = 2");
  f.error("a -> a", {2}, {{"a", -2}}, "rearrange: a negative size for 'a' in 'a -> a' for shape [2] with a = -2");
}

void repetitions(Family f) {
  f.repeat("h w -> (h 2) w c", {2, 3}, {{"c", 4}}, {4, 3, 4}, [](const Index& i) -> Index { return {i[0] / 2, i[1]}; });
  f.repeat("n d -> b n d", {3, 2}, {{"b", 2}}, {2, 3, 2}, [](const Index& i) -> Index { return {i[1], i[2]}; });
  f.repeat("1 d -> (b) d", {1, 3}, {{"b", 2}}, {2, 3}, [](const Index& i) -> Index { return {0, i[1]}; });
  f.repeat("... d -> (r ...) d", {2, 3}, {{"r", 2}}, {4, 3}, [](const Index& i) -> Index { return {i[0] % 2, i[1]}; });
  f.repeat("-> a 3", {}, {{"a", 2}}, {2, 3}, [](const Index&) -> Index { return {}; });
  f.repeat("a -> r a", {3}, {{"r", 0}}, {0, 3}, [](const Index& i) { return i; });

  const auto error = [&](const char* pattern, const AxisSizes& sizes, const char* message) {
    f.list.errors.push_back({"repeat", [=] { repeat(zeros({2, 3}), pattern, sizes); }, message});
  };
  error("a b -> a b c", {}, "repeat: no size for 'c' in 'a b -> a b c' for shape [2, 3]");
  error("a b -> a 2", {}, "repeat: 'b' is only on the left in 'a b -> a 2' for shape [2, 3]");
  error("a b -> a b 2 999999999999 999999999999", {},
        "repeat: too many elements in 'a b -> a b 2 999999999999 999999999999' for shape [2, 3]");
  error("2 b -> b", {}, "repeat: a length other than 1, 2, on the left in '2 b -> b' for shape [2, 3]");
}

void reductions(Family f) {
  const auto total = [](const std::vector<double>& v) { return std::accumulate(v.begin(), v.end(), 0.0); };
  const auto average = [=](const std::vector<double>& v) { return total(v) / static_cast<double>(v.size()); };
  const auto most = [](const std::vector<double>& v) { return *std::max_element(v.begin(), v.end()); };
  f.reduce(
      "b n d -> b d", {2, 3, 4}, mean, {}, {2, 4}, {3},
      [](const Index& i, const Index& j) -> Index {
        return {i[0], j[0], i[1]};
      },
      average);
  f.reduce(
      "b (h 2) (w 2) c -> b c h w", {1, 4, 6, 2}, amax, {}, {1, 2, 2, 3}, {2, 2},
      [](const Index& i, const Index& j) -> Index {
        return {i[0], i[2] * 2 + j[0], i[3] * 2 + j[1], i[1]};
      },
      most);
  f.reduce(
      "... d -> d", {2, 3, 4}, sum, {}, {4}, {2, 3},
      [](const Index& i, const Index& j) -> Index {
        return {j[0], j[1], i[0]};
      },
      total);
  f.reduce(
      "b ... -> ... 1", {2, 3}, mean, {}, {3, 1}, {2},
      [](const Index& i, const Index& j) -> Index {
        return {j[0], i[0]};
      },
      average);
  f.reduce(
      "a b ->", {2, 3}, sum, {}, {}, {2, 3}, [](const Index&, const Index& j) { return j; }, total);
  f.reduce(
      "a (b c) -> (c a)", {2, 6}, sum, {{"b", 3}}, {4}, {3},
      [](const Index& i, const Index& j) -> Index {
        return {i[0] % 2, j[0] * 2 + i[0] / 2};
      },
      total);
  f.reduce(
      "a b -> b a", {2, 3}, sum, {}, {3, 2}, {},
      [](const Index& i, const Index&) -> Index {
        return {i[1], i[0]};
      },
      total);

  const auto error = [&](const char* pattern, const char* message) {
    f.list.errors.push_back({"reduce", [=] { reduce(zeros({2, 3}), pattern, mean); }, message});
  };
  error("a b -> a c", "reduce: 'c' is only on the right in 'a b -> a c' for shape [2, 3]");
  error("a b -> a 2", "reduce: a length other than 1, 2, on the right in 'a b -> a 2' for shape [2, 3]");
  error("a (b 2) -> a b", "reduce: (b 2) cannot divide dimension 1 in 'a (b 2) -> a b' for shape [2, 3]");
}

}  // namespace

void einops_samples(SampleList& list) {
  const Family f{list};
  rearrangements(f), repetitions(f), reductions(f);
}

}  // namespace weft::test

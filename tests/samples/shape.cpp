#include "support/sample.h"

#include <algorithm>

namespace weft::test {

namespace {

using F = std::function<Tensor(const Tensor&)>;
// Where element index of the result comes from.
using From = std::function<Index(const Index&)>;

struct Family {
  SampleList& list;

  void add(const char* op, const char* variant, Tensors inputs, std::function<Tensors(const Tensors&)> call,
           std::function<Tensors(const Tensors&)> reference) {
    list.samples.push_back({.op = op,
                            .variant = variant,
                            .inputs = std::move(inputs),
                            .call = std::move(call),
                            .reference = std::move(reference)});
  }
  // One input of the given shape; the result has shape out and takes its elements from where from says.
  void add(const char* op, const char* variant, const Shape& in, F call, const Shape& out, From from) {
    add(
        op, variant, {values(in, 1)}, [call](const Tensors& x) -> Tensors { return {call(x[0])}; },
        [out, from](const Tensors& x) -> Tensors {
          return {make_at(out, [&](const Index& i) { return at(x[0], from(i)); })};
        });
  }
  // The same elements in row-major order.
  void same_order(const char* op, const char* variant, const Shape& in, F call, const Shape& out) {
    add(
        op, variant, {values(in, 1)}, [call](const Tensors& x) -> Tensors { return {call(x[0])}; },
        [out](const Tensors& x) -> Tensors {
          const auto v = x[0].to_vector<double>();
          return {make(out, [&](int64_t i) { return v[static_cast<size_t>(i)]; })};
        });
  }
  void error(const char* op, std::function<void()> call, const char* message) {
    list.errors.push_back({op, std::move(call), message});
  }
};

int64_t mod(int64_t a, int64_t n) { return (a % n + n) % n; }

// Elements [start, start + n) of dimension d.
Tensors part(const Tensor& x, int64_t d, int64_t start, int64_t n) {
  Shape shape = x.shape();
  shape[d] = n;
  return {make_at(shape, [&](Index i) {
    i[static_cast<size_t>(d)] += start;
    return at(x, i);
  })};
}

void sizes(Family f) {
  f.same_order("reshape", "merge and split", {2, 3, 4}, [](const Tensor& x) { return reshape(x, {4, -1}); }, {4, 6});
  f.same_order("reshape", "of a transpose", {3, 4}, [](const Tensor& x) { return reshape(x, {2, 6}); }, {2, 6});
  f.same_order("reshape", "scalar", {1, 1}, [](const Tensor& x) { return reshape(x, {}); }, {});
  f.same_order("reshape", "empty", {0, 3}, [](const Tensor& x) { return reshape(x, {3, 0, 2}); }, {3, 0, 2});
  f.same_order("flatten", "all", {2, 3, 4}, [](const Tensor& x) { return flatten(x); }, {24});
  f.same_order("flatten", "middle", {2, 3, 4, 5}, [](const Tensor& x) { return flatten(x, 1, -2); }, {2, 12, 5});
  f.same_order("flatten", "scalar", {}, [](const Tensor& x) { return flatten(x); }, {1});
  f.same_order("unflatten", "-1", {2, 6}, [](const Tensor& x) { return unflatten(x, 1, {-1, 2}); }, {2, 3, 2});
  f.same_order("unsqueeze", "last", {2, 3}, [](const Tensor& x) { return unsqueeze(x, -1); }, {2, 3, 1});
  f.same_order("unsqueeze", "first", {}, [](const Tensor& x) { return unsqueeze(x, 0); }, {1});
  f.same_order("squeeze", "one", {1, 3, 1}, [](const Tensor& x) { return squeeze(x, 0); }, {3, 1});
  f.same_order("squeeze", "not of size 1", {1, 3}, [](const Tensor& x) { return squeeze(x, 1); }, {1, 3});
  f.same_order("squeeze", "all", {1, 3, 1}, [](const Tensor& x) { return squeeze(x); }, {3});

  f.error(
      "reshape",
      [] {
        reshape(zeros({2, 3}), {4, -1});
      },
      "reshape: cannot make [4, -1] from [2, 3]");
  f.error(
      "reshape",
      [] {
        reshape(zeros({4}), {-1, -1});
      },
      "reshape: only one size can be -1, got [-1, -1]");
  f.error(
      "flatten",
      [] {
        flatten(zeros({2, 3}), 1, 0);
      },
      "flatten: start_dim 1 is after end_dim 0");
  f.error(
      "unflatten",
      [] {
        unflatten(zeros({5}), 0, {2, -1});
      },
      "reshape: cannot make [2, -1] from [5]");
  f.error(
      "unsqueeze", [] { unsqueeze(zeros({2}), 2 + 1); }, "unsqueeze: dim 3 is out of range for 2 dimensions");
  f.error(
      "squeeze", [] { squeeze(zeros({2}), 1); }, "squeeze: dim 1 is out of range for 1 dimensions");
}

void orders(Family f) {
  f.add(
      "permute", "3-D", {2, 3, 4},
      [](const Tensor& x) {
        return permute(x, {2, 0, -2});
      },
      {4, 2, 3},
      [](const Index& i) -> Index {
        return {i[1], i[2], i[0]};
      });
  const From swapped = [](const Index& i) -> Index { return {i[1], i[0]}; };
  f.add(
      "transpose", "matrix", {3, 5}, [](const Tensor& x) { return transpose(x, 0, -1); }, {5, 3}, swapped);
  f.add(
      "transpose", "one row", {1, 5}, [](const Tensor& x) { return transpose(x, 0, 1); }, {5, 1}, swapped);
  f.add(
      "swapaxes", "matrix", {3, 5}, [](const Tensor& x) { return swapaxes(x, 0, 1); }, {5, 3}, swapped);
  f.add(
      "movedim", "to the end", {2, 3, 4}, [](const Tensor& x) { return movedim(x, 0, -1); }, {3, 4, 2},
      [](const Index& i) -> Index {
        return {i[2], i[0], i[1]};
      });
  f.add(
      "flip", "two dims", {2, 3, 4},
      [](const Tensor& x) {
        return flip(x, {0, -1});
      },
      {2, 3, 4},
      [](const Index& i) -> Index {
        return {1 - i[0], i[1], 3 - i[2]};
      });
  f.add(
      "flip", "no dims", {3}, [](const Tensor& x) { return flip(x, {}); }, {3}, [](const Index& i) { return i; });
  f.add(
      "flip", "empty", {0, 2}, [](const Tensor& x) { return flip(x, {0}); }, {0, 2}, [](const Index& i) { return i; });
  f.add(
      "roll", "one dim", {3, 5}, [](const Tensor& x) { return roll(x, 2, 1); }, {3, 5},
      [](const Index& i) -> Index {
        return {i[0], mod(i[1] - 2, 5)};
      });
  f.add(
      "roll", "two dims, more than the size", {3, 5},
      [](const Tensor& x) {
        return roll(x, {-7, 11}, {0, 1});
      },
      {3, 5},
      [](const Index& i) -> Index {
        return {mod(i[0] + 7, 3), mod(i[1] - 11, 5)};
      });
  f.add(
      "roll", "flat", {2, 3}, [](const Tensor& x) { return roll(x, {1}); }, {2, 3},
      [](const Index& i) -> Index {
        const int64_t at = mod(i[0] * 3 + i[1] - 1, 6);
        return {at / 3, at % 3};
      });
  f.add(
      "roll", "by nothing", {3}, [](const Tensor& x) { return roll(x, 0, 0); }, {3}, [](const Index& i) { return i; });
  f.add(
      "roll", "empty", {0}, [](const Tensor& x) { return roll(x, 1, 0); }, {0}, [](const Index& i) { return i; });

  f.error(
      "permute",
      [] {
        permute(zeros({2, 3}), {0, 0});
      },
      "permute: dim 0 is repeated in [0, 0]");
  f.error(
      "permute",
      [] {
        permute(zeros({2, 3}), {0});
      },
      "permute: 1 dims given for shape [2, 3]");
  f.error(
      "transpose",
      [] {
        transpose(zeros({2, 3}), 0, 2);
      },
      "transpose: dim 2 is out of range for 2 dimensions");
  f.error(
      "swapaxes",
      [] {
        swapaxes(zeros({2, 3}), 0, 2);
      },
      "transpose: dim 2 is out of range for 2 dimensions");
  f.error(
      "movedim",
      [] {
        movedim(zeros({2, 3}), -3, 0);
      },
      "movedim: dim -3 is out of range for 2 dimensions");
  f.error(
      "flip",
      [] {
        flip(zeros({2, 3}), {0, -2});
      },
      "flip: dim 0 is named twice");
  f.error(
      "roll",
      [] {
        roll(zeros({2, 3}), {1, 2}, {0});
      },
      "roll: 2 shifts for 1 dims");
  f.error(
      "roll",
      [] {
        roll(zeros({2, 3}), {1, 2});
      },
      "roll: 2 shifts without dims");
}

void parts(Family f) {
  f.add(
      "slice", "step", {3, 7}, [](const Tensor& x) { return slice(x, 1, 1, -1, 2); }, {3, 3},
      [](const Index& i) -> Index {
        return {i[0], 1 + 2 * i[1]};
      });
  f.add(
      "slice", "clamped", {3, 7}, [](const Tensor& x) { return slice(x, 0, -99, 2); }, {2, 7},
      [](const Index& i) { return i; });
  f.add(
      "slice", "nothing", {3}, [](const Tensor& x) { return slice(x, 0, 2, 1); }, {0},
      [](const Index& i) { return i; });
  f.add(
      "narrow", "middle", {4, 3}, [](const Tensor& x) { return narrow(x, 0, -3, 2); }, {2, 3},
      [](const Index& i) -> Index {
        return {i[0] + 1, i[1]};
      });
  f.add(
      "select", "from the end", {4, 3}, [](const Tensor& x) { return select(x, 1, -1); }, {4},
      [](const Index& i) -> Index {
        return {i[0], 2};
      });
  f.add(
      "diagonal", "main", {3, 5}, [](const Tensor& x) { return diagonal(x); }, {3},
      [](const Index& i) -> Index {
        return {i[0], i[0]};
      });
  f.add(
      "diagonal", "above, other dims", {3, 2, 5}, [](const Tensor& x) { return diagonal(x, 1, 0, 2); }, {2, 3},
      [](const Index& i) -> Index {
        return {i[1], i[0], i[1] + 1};
      });
  f.add(
      "diagonal", "below, out of the matrix", {3, 2}, [](const Tensor& x) { return diagonal(x, -5); }, {0},
      [](const Index& i) -> Index {
        return {i[0], i[0]};
      });
  f.add(
      "unfold", "overlapping", {2, 9, 3}, [](const Tensor& x) { return unfold(x, 1, 5, 2); }, {2, 3, 3, 5},
      [](const Index& i) -> Index {
        return {i[0], i[1] * 2 + i[3], i[2]};
      });
  f.add(
      "unfold", "every position", {7}, [](const Tensor& x) { return unfold(x, 0, 3, 1); }, {5, 3},
      [](const Index& i) -> Index { return {i[0] + i[1]}; });
  f.add(
      "unfold", "with gaps", {11}, [](const Tensor& x) { return unfold(x, -1, 2, 4); }, {3, 2},
      [](const Index& i) -> Index { return {i[0] * 4 + i[1]}; });
  f.add(
      "unfold", "the whole", {5}, [](const Tensor& x) { return unfold(x, 0, 5, 9); }, {1, 5},
      [](const Index& i) -> Index { return {i[1]}; });

  const auto parts_of = [](int64_t d, std::vector<int64_t> sizes) {
    return [=](const Tensors& x) {
      Tensors out;
      int64_t at = 0;
      for (int64_t n : sizes) out.push_back(part(x[0], d, at, n)[0]), at += n;
      return out;
    };
  };
  f.add(
      "split", "sizes", {values({2, 6}, 1)},
      [](const Tensors& x) {
        return split(x[0], std::vector<int64_t>{1, 0, 5}, -1);
      },
      parts_of(1, {1, 0, 5}));
  f.add(
      "split", "by size", {values({7, 2}, 1)}, [](const Tensors& x) { return split(x[0], 3); }, parts_of(0, {3, 3, 1}));
  f.add(
      "chunk", "uneven", {values({7, 2}, 1)}, [](const Tensors& x) { return chunk(x[0], 3); }, parts_of(0, {3, 3, 1}));
  f.add(
      "chunk", "fewer than asked", {values({2, 3}, 1)}, [](const Tensors& x) { return chunk(x[0], 5, 1); },
      parts_of(1, {1, 1, 1}));
  f.add(
      "unbind", "dim 1", {values({2, 3}, 1)}, [](const Tensors& x) { return unbind(x[0], 1); },
      [](const Tensors& x) {
        Tensors out;
        for (int64_t k = 0; k < 3; ++k)
          out.push_back(make_at({2}, [&](const Index& i) { return at(x[0], {i[0], k}); }));
        return out;
      });

  f.error(
      "slice", [] { slice(zeros({3}), 0, 0, 2, 0); }, "slice: step must be positive, got 0");
  f.error(
      "narrow", [] { narrow(zeros({3}), 0, 1, 3); }, "narrow: 1 to 4 is out of range for size 3");
  f.error(
      "select",
      [] {
        select(zeros({3, 2}), 0, 3);
      },
      "select: index 3 is out of range for dim 0 of [3, 2]");
  f.error(
      "diagonal", [] { diagonal(zeros({3})); }, "diagonal: dim 1 is out of range for 1 dimensions");
  f.error(
      "unfold",
      [] {
        unfold(zeros({2, 3}), 1, 4, 1);
      },
      "unfold: windows of 4 elements do not fit dim 1 of [2, 3]");
  f.error(
      "unfold", [] { unfold(zeros({3}), 0, 1, 0); }, "unfold: step must be positive, got 0");
  f.error(
      "split",
      [] {
        split(zeros({3}), std::vector<int64_t>{1, 1});
      },
      "split: the sizes add up to 2, dim 0 of [3] has 3");
  f.error(
      "split", [] { split(zeros({3}), 0); }, "split: size must be positive, got 0");
  f.error(
      "chunk", [] { chunk(zeros({3}), 0); }, "chunk: expected a positive number of chunks, got 0");
  f.error(
      "unbind", [] { unbind(zeros({})); }, "unbind: a scalar has no dimensions");
}

void joins(Family f) {
  f.add(
      "cat", "different sizes", {values({2, 1}, 1), values({2, 3}, 2), values({2, 0}, 3)},
      [](const Tensors& x) -> Tensors { return {cat(x, 1)}; },
      [](const Tensors& x) -> Tensors {
        return {make_at({2, 4}, [&](const Index& i) { return i[1] < 1 ? at(x[0], i) : at(x[1], {i[0], i[1] - 1}); })};
      });
  f.add(
      "cat", "one", {values({3}, 1)}, [](const Tensors& x) -> Tensors { return {cat(x)}; },
      [](const Tensors& x) { return part(x[0], 0, 0, 3); });
  f.add(
      "stack", "in the middle", {values({2, 3}, 1), values({2, 3}, 2)},
      [](const Tensors& x) -> Tensors { return {stack(x, -2)}; },
      [](const Tensors& x) -> Tensors {
        return {make_at({2, 2, 3}, [&](const Index& i) { return at(x[static_cast<size_t>(i[1])], {i[0], i[2]}); })};
      });
  f.add(
      "stack", "scalars", {values({}, 1), values({}, 2)}, [](const Tensors& x) -> Tensors { return {stack(x)}; },
      [](const Tensors& x) -> Tensors {
        return {make_at({2}, [&](const Index& i) { return at(x[static_cast<size_t>(i[0])], {}); })};
      });
  f.add(
      "pad", "both sides of two dims", {values({2, 3}, 1)},
      [](const Tensors& x) -> Tensors {
        return {pad(x[0], {1, 2, 0, 1}, -1.5)};
      },
      [](const Tensors& x) -> Tensors {
        return {make_at({3, 6}, [&](const Index& i) {
          const bool inside = i[0] < 2 && i[1] >= 1 && i[1] < 4;
          return inside ? at(x[0], {i[0], i[1] - 1}) : -1.5;
        })};
      });
  f.add(
      "pad", "cropping, and shifting", {values({5, 4}, 1)},
      [](const Tensors& x) -> Tensors {
        return {pad(x[0], {1, -1, -2, 0})};
      },
      [](const Tensors& x) -> Tensors {
        return {make_at({3, 4}, [&](const Index& i) { return i[1] == 0 ? 0.0 : at(x[0], {i[0] + 2, i[1] - 1}); })};
      });

  f.error(
      "cat", [] { cat({}); }, "cat: expected at least one tensor");
  f.error(
      "cat",
      [] {
        cat({zeros({2, 3}), zeros({3, 3})}, 1);
      },
      "cat: tensor 1 has shape [3, 3], the first [2, 3]; they may differ in dim 1 only");
  f.error(
      "stack",
      [] {
        stack({zeros({2}), zeros({3})});
      },
      "stack: tensor 1 has shape [3], the first [2]");
  f.error(
      "pad", [] { pad(zeros({2}), {1}); }, "pad: 1 amounts for shape [2]");
  f.error(
      "pad",
      [] {
        pad(zeros({2}), {-1, -2});
      },
      "pad: -1 and -2 crop more than dim 0 of [2] has");
}

void repeats(Family f) {
  const From columns = [](const Index& i) -> Index { return {i[1], 0}; };
  f.add(
      "expand", "new and old dims", {3, 1},
      [](const Tensor& x) {
        return expand(x, {2, -1, 4});
      },
      {2, 3, 4}, columns);
  f.add(
      "expand", "to nothing", {1}, [](const Tensor& x) { return expand(x, {0}); }, {0},
      [](const Index& i) { return i; });
  f.add(
      "broadcast_to", "new and old dims", {3, 1},
      [](const Tensor& x) {
        return broadcast_to(x, {2, 3, 4});
      },
      {2, 3, 4}, columns);
  f.add(
      "broadcast_tensors", "two", {values({3, 1}, 1), values({4}, 2)},
      [](const Tensors& x) { return broadcast_tensors(x); },
      [](const Tensors& x) -> Tensors {
        return {make_at({3, 4}, [&](const Index& i) { return at(x[0], i); }),
                make_at({3, 4}, [&](const Index& i) { return at(x[1], i); })};
      });
  const auto grids = [](bool xy) {
    return [xy](const Tensors& x) -> Tensors {
      const Shape shape = xy ? Shape{2, 3, 1} : Shape{3, 2, 1};
      Tensors out;
      for (size_t k = 0; k < 3; ++k) {
        const size_t d = xy && k < 2 ? 1 - k : k;
        out.push_back(make_at(shape, [&](const Index& i) { return at(x[k], {i[d]}); }));
      }
      return out;
    };
  };
  const Tensors axes{values({3}, 1), values({2}, 2), values({}, 3)};
  f.add(
      "meshgrid", "ij", axes, [](const Tensors& x) { return meshgrid(x); }, grids(false));
  f.add(
      "meshgrid", "xy", axes, [](const Tensors& x) { return meshgrid(x, "xy"); }, grids(true));
  f.add(
      "tile", "each dim", {2, 3},
      [](const Tensor& x) {
        return tile(x, {3, 2});
      },
      {6, 6},
      [](const Index& i) -> Index {
        return {i[0] % 2, i[1] % 3};
      });
  f.add(
      "tile", "new leading dims", {3},
      [](const Tensor& x) {
        return tile(x, {2, 1, 2});
      },
      {2, 1, 6}, [](const Index& i) -> Index { return {i[2] % 3}; });
  f.add(
      "tile", "trailing dims only", {2, 1}, [](const Tensor& x) { return tile(x, {5}); }, {2, 5},
      [](const Index& i) -> Index {
        return {i[0], 0};
      });
  f.add(
      "tile", "no times", {2, 3},
      [](const Tensor& x) {
        return tile(x, {0, 2});
      },
      {0, 6}, [](const Index& i) { return i; });

  const auto triangle = [](const Shape& shape, bool lower, int64_t diagonal) {
    return [=](const Tensors& x) -> Tensors {
      return {make_at(shape, [&](const Index& i) {
        const int64_t off = i[i.size() - 1] - i[i.size() - 2] - diagonal;
        return (lower ? off <= 0 : off >= 0) ? at(x[0], i) : 0.0;
      })};
    };
  };
  f.add(
      "tril", "square", {values({4, 4}, 1)}, [](const Tensors& x) -> Tensors { return {tril(x[0])}; },
      triangle({4, 4}, true, 0));
  f.add(
      "tril", "batch, diagonal 1", {values({2, 3, 5}, 1)}, [](const Tensors& x) -> Tensors { return {tril(x[0], 1)}; },
      triangle({2, 3, 5}, true, 1));
  f.add(
      "triu", "tall, diagonal -1", {values({5, 3}, 1)}, [](const Tensors& x) -> Tensors { return {triu(x[0], -1)}; },
      triangle({5, 3}, false, -1));
  f.add(
      "triu", "empty", {values({0, 3}, 1)}, [](const Tensors& x) -> Tensors { return {triu(x[0])}; },
      triangle({0, 3}, false, 0));

  f.error(
      "expand", [] { expand(zeros({2}), {3}); }, "expand: cannot expand [2] to [3]");
  f.error(
      "broadcast_to",
      [] {
        broadcast_to(zeros({2, 1}), {3});
      },
      "expand: cannot expand [2, 1] to fewer dimensions [3]");
  f.error(
      "broadcast_tensors",
      [] {
        broadcast_tensors({zeros({2}), zeros({3})});
      },
      "broadcast_tensors: shapes do not broadcast: [2] and [3]");
  f.error(
      "meshgrid",
      [] {
        meshgrid({zeros({2, 2})});
      },
      "meshgrid: expected 1-D tensors, got shape [2, 2]");
  f.error(
      "meshgrid", [] { meshgrid({zeros({2})}, "yx"); }, "meshgrid: indexing must be ij or xy, got 'yx'");
  f.error(
      "tile", [] { tile(zeros({2}), {-1}); }, "tile: negative number of times in [-1]");
  f.error(
      "tril", [] { tril(zeros({2})); }, "tril: expected at least two dimensions, got shape [2]");
  f.error(
      "triu", [] { triu(zeros({})); }, "triu: expected at least two dimensions, got shape []");
}

}  // namespace

void shape_samples(SampleList& list) {
  const Family f{list};
  sizes(f), orders(f), parts(f), joins(f), repeats(f);
}

}  // namespace weft::test

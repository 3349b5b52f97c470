#include <weft/autograd/autograd.h>
#include <weft/nn/relative_position.h>
#include <weft/ops/create.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>

#include <algorithm>
#include <cmath>

namespace weft {

Tensor toeplitz(const Tensor& values, int64_t i, int64_t j) {
  check(values.dim() >= 1 && i >= 0 && j >= 0 && values.size(-1) == std::max<int64_t>(0, i + j - 1),
        "toeplitz: ", values.shape(), " does not hold the diagonals of [", i, ", ", j, "]");
  if (i == 0 || j == 0) {
    Shape shape = values.shape();
    shape.back() = i, shape.push_back(j);
    return zeros(shape, {.dtype = values.dtype(), .device = values.device()});
  }
  const Tensor y = flip(unfold(values.detach(), -1, j, 1), {-2});
  return record("toeplitz", y, {values}, [i, j](const Tensor& dy) -> Grads {
    // Read with rows one shorter than they are, row r of a matrix moves r places to the right: diagonals become
    // columns.
    const Tensor rows = flatten(pad(flip(dy, {-2}), {0, i}), -2, -1);  // [..., i * (i + j)]
    return {sum(unflatten(slice(rows, -1, 0, i * (i + j - 1)), -1, {i, i + j - 1}), -2)};
  });
}

int64_t t5_bucket(int64_t distance, bool causal, int64_t num_buckets, int64_t max_distance) {
  int64_t buckets = num_buckets, first = 0;
  int64_t behind = -distance;
  if (causal) {
    behind = std::max<int64_t>(behind, 0);
  } else {
    buckets /= 2;
    if (behind < 0) first = buckets, behind = -behind;
  }
  const int64_t near = buckets / 2;
  if (behind < near) return first + behind;
  // In float32 and in this order, as the originals: a bucket starts where the quotient passes an integer.
  const float share = std::log(static_cast<float>(behind) / static_cast<float>(near)) /
                      static_cast<float>(std::log(static_cast<double>(max_distance) / static_cast<double>(near)));
  return first + std::min(near + static_cast<int64_t>(share * static_cast<float>(buckets - near)), buckets - 1);
}

void check_t5_buckets(const char* owner, bool causal, int64_t num_buckets, int64_t max_distance) {
  check(num_buckets >= (causal ? 2 : 4), owner, ": num_buckets must be at least ", causal ? 2 : 4, ", got ",
        num_buckets);
  const int64_t near = num_buckets / (causal ? 2 : 4);
  check(max_distance > near, owner, ": max_distance must be above ", near, " (half of the buckets of a side), got ",
        max_distance);
}

}  // namespace weft

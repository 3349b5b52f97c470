// Products of batches of matrices: floats by cuBLASLt, integers by the plain sum.
#include <weft/cuda/blas.h>
#include <weft/ops/copy.h>
#include <weft/cuda/common.cuh>

namespace weft::cuda {

namespace {

// Element (i, j) of matrix b lies at b·batch + i·row + j·col.
struct Strides {
  int64_t batch, row, col;
};
Strides strides_of(const Tensor& x) { return {x.shape()[0] == 1 ? 0 : x.strides()[0], x.strides()[1], x.strides()[2]}; }

__global__ void integer_kernel(Data a, Data b, Data y, bool add, int64_t batch, int64_t m, int64_t n, int64_t k,
                               Strides at_a, Strides at_b, Strides at_y) {
  WEFT_GRID_LOOP(i, batch * m * n) {
    const int64_t z = i / (m * n), r = i / n % m, c = i % n;
    const int64_t to = z * at_y.batch + r * at_y.row + c * at_y.col;
    int64_t sum = add ? y.load<int64_t>(to) : 0;
    for (int64_t p = 0; p < k; ++p)
      sum += a.load<int64_t>(z * at_a.batch + r * at_a.row + p * at_a.col) *
             b.load<int64_t>(z * at_b.batch + p * at_b.row + c * at_b.col);
    y.store(to, sum);
  }
}

}  // namespace

void matmul(const Tensor& a, const Tensor& b, const Tensor& c, Tensor& y) {
  const int64_t batch = y.shape()[0], m = y.shape()[1], n = y.shape()[2], k = a.shape()[2];
  if (y.numel() == 0) return;
  const bool add = c.defined(), in_place = add && c.raw_data() == y.raw_data();
  const bool empty_sum = k == 0, integers = !y.is_floating();
  if (add && !in_place && (empty_sum || integers)) copy_into(c, y);
  if (empty_sum) return add ? void() : fill_into(y, 0);
  DeviceScope scope(y);
  if (integers) {
    return launch("matmul", y.numel(), integer_kernel, data_of(a), data_of(b), data_of(y), add, batch, m, n, k,
                  strides_of(a), strides_of(b), strides_of(y));
  }
  multiply({.op = "matmul",
            .a = matrices(a),
            .b = matrices(b),
            .y = matrices(y),
            .batch = batch,
            .accumulate = add,
            .start = add && !in_place ? c.raw_data() : nullptr});
}

}  // namespace weft::cuda

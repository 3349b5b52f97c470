// What a product's operands look like to the library, and copies of those that it cannot read fast.
#include <weft/cuda/blas_plan.h>
#include <weft/cuda/common.cuh>

namespace weft::cuda {

Matrices matrices(const Tensor& x) {
  const int64_t d = x.dim() - 2;
  return {x.raw_data(),
          x.dtype(),
          x.shape()[d],
          x.shape()[d + 1],
          x.strides()[d],
          x.strides()[d + 1],
          d == 0 || x.shape()[0] == 1 ? 0 : x.strides()[0]};
}

Matrices transposed(const Matrices& x) {
  Matrices t = x;
  std::swap(t.rows, t.cols);
  std::swap(t.row_stride, t.col_stride);
  return t;
}

// --- how an operand lies --------------------------------------------------------------------------------------------

StoredMatrix stored(const Matrices& x) {
  const bool row_major = (x.col_stride == 1 || x.cols == 1) && (x.row_stride >= x.cols || x.rows == 1);
  const int64_t run = row_major ? x.cols : x.rows, count = row_major ? x.rows : x.cols;
  // The stride of a single row means nothing and may be anything: take one that suits every algorithm.
  const int64_t ld = count == 1 ? (run + 15) / 16 * 16 : row_major ? x.row_stride : x.col_stride;
  return {run, count, std::max<int64_t>(ld, 1), x.batch_stride, row_major ? CUBLAS_OP_N : CUBLAS_OP_T};
}

uint32_t alignment(const void* p, uint32_t limit) {
  const auto address = reinterpret_cast<uintptr_t>(p);
  return address % limit == 0 ? limit : static_cast<uint32_t>(address & (~address + 1));
}

namespace {

// --- rows of odd length or place -------------------------------------------------------------------------------------
//
// Half types are fed to the tensor cores 16 bytes at a time. Where rows do not begin at multiples of that, or are not
// of a whole number of such packs, the library has algorithms several times slower. A large product is worth a copy of
// operands of the first kind; of the second, what is left of the packs is a small product of its own.

constexpr int64_t kUses = 256;  // of each element of what is copied, and
constexpr double kWork = 2e9;   // multiplications, from which on
constexpr int64_t kHalves = 8;  // in 16 bytes

bool is_awkward(const Matrices& x, int64_t batch) {
  const auto whole = static_cast<int64_t>(16 / size_of(x.dtype));
  const StoredMatrix s = stored(x);
  return alignment(x.data, 16) != 16 || s.ld % whole != 0 || (batch > 1 && x.batch_stride % whole != 0);
}

template <class T>
__global__ void copy_rows_kernel(const T* __restrict__ from, int64_t from_row, int64_t from_batch, T* __restrict__ to,
                                 int64_t to_row, int64_t to_batch, int64_t rows, int64_t cols, int64_t batch) {
  for (int64_t r = int64_t{blockIdx.x} * blockDim.y + threadIdx.y; r < rows * batch;
       r += int64_t{gridDim.x} * blockDim.y) {
    const T* __restrict__ in = from + r / rows * from_batch + r % rows * from_row;
    T* __restrict__ out = to + r / rows * to_batch + r % rows * to_row;
#pragma unroll 8
    for (int64_t c = threadIdx.x; c < cols; c += 32) out[c] = in[c];
  }
}

// Copies between matrices of one orientation.
void copy_rows(const Matrices& from, const Matrices& to, int64_t batch, const char* op) {
  const bool row_major = to.col_stride == 1;
  const int64_t rows = row_major ? to.rows : to.cols, cols = row_major ? to.cols : to.rows;
  const int64_t from_row = row_major ? from.row_stride : from.col_stride;
  const int64_t to_row = row_major ? to.row_stride : to.col_stride;
  const auto run = [&]<class T>(Type<T>) {
    const auto blocks = static_cast<unsigned>(std::clamp<int64_t>((rows * batch + 7) / 8, 1, 132 * 64));
    copy_rows_kernel<T><<<blocks, dim3(32, 8), 0, stream()>>>(static_cast<const T*>(from.data), from_row,
                                                              from.batch_stride, static_cast<T*>(to.data), to_row,
                                                              to.batch_stride, rows, cols, batch);
    check_cuda(cudaGetLastError(), op);
  };
  size_of(to.dtype) == 4 ? run(Type<uint32_t>{}) : run(Type<uint16_t>{});
}

// Memory like x's, with rows that begin at multiples of 16 bytes.
Matrices padded(const Matrices& x, int64_t batch, Tensor& memory) {
  const auto whole = static_cast<int64_t>(16 / size_of(x.dtype));
  const StoredMatrix s = stored(x);
  const int64_t row = (s.rows + whole - 1) / whole * whole, one = row * s.cols, count = x.batch_stride == 0 ? 1 : batch;
  int device = 0;
  check_cuda(cudaGetDevice(&device), "matmul");
  memory = empty({count * one}, x.dtype, Device::cuda(device));
  Matrices y = x;
  y.data = memory.raw_data();
  if (s.op == CUBLAS_OP_N)
    y.row_stride = row, y.col_stride = 1;
  else
    y.row_stride = 1, y.col_stride = row;
  y.batch_stride = x.batch_stride == 0 ? 0 : one;
  return y;
}

// Computes p on copies of what is awkward about it; false, with nothing done, where that would not pay.
bool multiply_padded(const Product& p) {
  if (!is_half(p.a.dtype) || p.aux || work_of(p) < kWork) return false;
  const bool a = is_awkward(p.a, p.batch), b = is_awkward(p.b, p.batch), y = is_awkward(p.y, p.batch);
  if (!(a || b || y)) return false;
  if ((a && p.y.cols < kUses) || (b && p.y.rows < kUses) || (y && (p.a.cols < kUses || p.accumulate))) return false;
  Tensor memory[3];
  Product q = p;
  const auto stage = [&](Matrices& x, Tensor& m, bool filled) {
    const Matrices from = x;
    x = padded(from, p.batch, m);
    if (filled) copy_rows(from, x, x.batch_stride == 0 ? 1 : p.batch, p.op);
  };
  if (y) stage(q.y, memory[2], false);
  if (a) stage(q.a, memory[0], true);
  if (b) stage(q.b, memory[1], true);
  if (!multiply(q)) return false;
  if (y) copy_rows(q.y, p.y, p.batch, p.op);
  return true;
}

template <class P>  // void* or const void*
P advance(P p, int64_t elements, DType dtype) {
  using Byte = std::conditional_t<std::is_const_v<std::remove_pointer_t<P>>, const char, char>;
  return p ? static_cast<Byte*>(p) + elements * static_cast<int64_t>(size_of(dtype)) : p;
}

// The part of p that makes rows, or columns, [from, from + count) of y; or that sums over these k.
Product part_of_rows(Product p, int64_t from, int64_t count) {
  p.a.data = advance(p.a.data, from * p.a.row_stride, p.a.dtype), p.a.rows = count;
  p.y.data = advance(p.y.data, from * p.y.row_stride, p.y.dtype), p.y.rows = count;
  p.start = advance(p.start, from * p.y.row_stride, p.y.dtype);
  if (p.epilogue == Epilogue::row_sums) p.vector = advance(p.vector, from, p.y.dtype);
  return p;
}
Product part_of_columns(Product p, int64_t from, int64_t count) {
  p.b.data = advance(p.b.data, from * p.b.col_stride, p.b.dtype), p.b.cols = count;
  p.y.data = advance(p.y.data, from, p.y.dtype), p.y.cols = count;
  p.start = advance(p.start, from, p.y.dtype);
  if (p.epilogue != Epilogue::row_sums) p.vector = advance(p.vector, from, p.y.dtype);
  return p;
}
Product part_of_sum(Product p, int64_t from, int64_t count) {
  p.a.data = advance(p.a.data, from * p.a.col_stride, p.a.dtype), p.a.cols = count;
  p.b.data = advance(p.b.data, from * p.b.row_stride, p.b.dtype), p.b.rows = count;
  if (from > 0) p.accumulate = true, p.start = nullptr, p.epilogue = Epilogue::none, p.vector = nullptr;
  return p;
}

// Computes p in parts, the first of whole packs; false where p has whole packs, or an epilogue that needs the sum
// whole.
bool multiply_in_parts(const Product& p) {
  if (!is_half(p.a.dtype) || p.aux || work_of(p) < kWork) return false;
  const bool a_rows = p.a.col_stride == 1, b_rows = p.b.col_stride == 1;
  const int64_t m = p.y.rows, n = p.y.cols, k = p.a.cols;
  const auto rest = [](bool matters, int64_t size) { return matters && size > kHalves ? size % kHalves : 0; };
  const int64_t rest_m = rest(!a_rows, m), rest_n = rest(true, n), rest_k = rest(a_rows || !b_rows, k);
  if (rest_n > 0)
    return multiply(part_of_columns(p, 0, n - rest_n)) && multiply(part_of_columns(p, n - rest_n, rest_n));
  if (rest_m > 0) return multiply(part_of_rows(p, 0, m - rest_m)) && multiply(part_of_rows(p, m - rest_m, rest_m));
  if (rest_k == 0 || (p.epilogue != Epilogue::none && p.epilogue != Epilogue::bias)) return false;
  return multiply(part_of_sum(p, 0, k - rest_k)) && multiply(part_of_sum(p, k - rest_k, rest_k));
}

}  // namespace

bool multiply(const Product& p) {
  if (p.y.rows == 0 || p.y.cols == 0 || p.batch == 0) return true;
  return multiply_padded(p) || multiply_in_parts(p) || multiply_as_it_lies(p);
}

}  // namespace weft::cuda

#include <weft/cpu/gemm.h>
#include <weft/cpu/strided.h>

#include <memory>

namespace weft::cpu {

namespace {

// A batch of matrices as gemm wants them: T is float or double, transposed says that columns run along memory.
template <class T>
struct Operand {
  const T* data = nullptr;
  int64_t ld = 0, batch_stride = 0;
  bool transposed = false;
  Tensor converted;  // holds the memory where the dtype had to change
};

template <class T>
Operand<T> operand(const Tensor& x) {
  Operand<T> o;
  Tensor in = x;
  if (x.dtype() != dtype_of<T>()) {
    in = empty_like(x, dtype_of<T>());
    map<T, T>([](T v) { return v; }, x, in);
    o.converted = in;
  }
  const int64_t rows = in.shape()[1], cols = in.shape()[2], rs = in.strides()[1], cs = in.strides()[2];
  o.transposed = !((cs == 1 || cols == 1) && (rs >= cols || rows == 1));
  o.ld = std::max(o.transposed ? cs : rs, std::max<int64_t>(o.transposed ? rows : cols, 1));
  o.batch_stride = in.shape()[0] == 1 ? 0 : in.strides()[0];
  o.data = in.data<T>();
  return o;
}

template <class T>
void product(const Tensor& a, const Tensor& b, const Tensor& start, Tensor& y) {
  const int64_t batch = y.shape()[0], m = y.shape()[1], n = y.shape()[2], k = a.shape()[2];
  const Operand<T> x = operand<T>(a), w = operand<T>(b);
  const bool direct = y.dtype() == dtype_of<T>();
  Tensor c = direct ? y : empty_like(y, dtype_of<T>());
  if (start.defined() && start.raw_data() != c.raw_data()) map<T, T>([](T v) { return v; }, start, c);
  T* out = c.data<T>();
  const int64_t c_batch = c.strides()[0], c_row = c.strides()[1];
  auto one = [&](auto&& f, int64_t i) {
    f(x.transposed, w.transposed, m, n, k, T(1), x.data + i * x.batch_stride, x.ld, w.data + i * w.batch_stride, w.ld,
      start.defined() ? T(1) : T(0), out + i * c_batch, std::max(c_row, n));
  };
  if (batch == 1) {
    one(gemm<T>, 0);
  } else {
    // Enough products for every thread: one a chunk; few large ones: each on all threads.
    const bool large = batch < 8 && m * n * k > int64_t{1} << 22;
    if (large) {
      for (int64_t i = 0; i < batch; ++i) one(gemm<T>, i);
    } else {
      const int64_t grain = std::max<int64_t>(1, (int64_t{1} << 17) / std::max<int64_t>(m * n * k, 1));
      parallel_for(batch, grain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) one(gemm_serial<T>, i);
      });
    }
  }
  if (!direct) map<T, T>([](T v) { return v; }, c, y);
}

// Integers: the plain loop, exact in int64.
void integer_product(const Tensor& a, const Tensor& b, const Tensor& start, Tensor& y) {
  const int64_t batch = y.shape()[0], m = y.shape()[1], n = y.shape()[2], k = a.shape()[2];
  auto wide = [](const Tensor& x) {
    Tensor w = empty_like(x, int64);
    map<int64_t, int64_t>([](int64_t v) { return v; }, x, w);
    return w;
  };
  const Tensor x = wide(a), w = wide(b);
  Tensor c = start.defined() ? wide(start) : empty_like(y, int64);
  parallel_for(batch * m, std::max<int64_t>(1, kGrain / std::max<int64_t>(n * k, 1)), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t i = r / m;
      const int64_t* row = x.data<int64_t>() + (x.shape()[0] == 1 ? r % m : r) * k;
      const int64_t* matrix = w.data<int64_t>() + (w.shape()[0] == 1 ? 0 : i * k * n);
      int64_t* out = c.data<int64_t>() + r * n;
      if (!start.defined()) std::fill(out, out + n, 0);
      for (int64_t p = 0; p < k; ++p) {
        for (int64_t j = 0; j < n; ++j) out[j] += row[p] * matrix[p * n + j];
      }
    }
  });
  map<int64_t, int64_t>([](int64_t v) { return v; }, c, y);
}

}  // namespace

void matmul(const Tensor& a, const Tensor& b, const Tensor& c, Tensor& y) {
  if (y.numel() == 0) return;
  if (y.dtype() == float64)
    product<double>(a, b, c, y);
  else if (y.is_floating())
    product<float>(a, b, c, y);
  else
    integer_product(a, b, c, y);
}

}  // namespace weft::cpu

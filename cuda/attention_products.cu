// Attention over a matrix of weights that is kept, for values so wide (a gated attention unit's) that they are the
// larger part of memory and of work. The tiled kernels would make each tile of scores anew for every block of columns
// of v. Here the products run at the library's speed, and one walk over the scores does all that lies between them:
//
//   forward    s = q·kᵀ                 w = f(scale·s + bias)               out = w·v
//   backward   s, dw = dout·vᵀ          ds = dw·f'(scale·s + bias)          dv = wᵀ·dout, dq = scale·ds·k, dk =
//   scale·dsᵀ·q
//
// Scores and the gradient of the weights are float32, weights and the gradient of the scores bfloat16. bfloat16 alone:
// float16 has not the range for scale·ds.
#include <weft/cuda/attention_products.h>
#include <weft/cuda/blas.h>
#include <weft/ops/reduce.h>
#include <weft/cuda/rows.cuh>

namespace weft::cuda {

namespace {

bool fits(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionArgs& args) {
  const int64_t n = q.shape()[2], m = k.shape()[2], dv = v.shape()[3];
  return q.dtype() == bfloat16 && args.fn != AttentionFn::softmax && q.shape()[1] == k.shape()[1] && dv > 256 &&
         m <= dv && n > 0 && m > 0 && q.shape()[3] > 0 && q.numel() > 0 && args.dropout == 0 && !args.alibi.defined() &&
         !args.kv_length.defined() && !args.cu_q.defined();
}

// --- products over heads ---------------------------------------------------------------------------------------------

// x: [b, h, n, d] with elements of a row side by side.
Tensor with_rows(const Tensor& x) {
  return x.strides()[3] == 1 && (x.strides()[2] >= x.shape()[3] || x.shape()[2] == 1) ? x : x.contiguous();
}

// The stride from head to head over all sequences; -1 where memory has them otherwise.
int64_t head_stride(const Tensor& x) {
  const Shape &size = x.shape(), &stride = x.strides();
  if (size[1] == 1) return stride[0];
  return size[0] == 1 || stride[0] == size[1] * stride[1] ? stride[1] : -1;
}

// The heads of sequence b, or of all of them.
Matrices of_sequence(const Tensor& x, int64_t b, bool all) {
  const auto skip = b * x.strides()[0] * static_cast<int64_t>(size_of(x.dtype()));
  return {static_cast<char*>(x.raw_data()) + skip, x.dtype(), x.shape()[2], x.shape()[3], x.strides()[2], 1,
          all ? head_stride(x) : x.strides()[1]};
}

enum class Side { as_is, transposed };

// y[b, h] = a[b, h]·c[b, h], either of them transposed.
void multiply_heads(const Tensor& a, Side of_a, const Tensor& c, Side of_c, const Tensor& y) {
  const bool all = head_stride(a) >= 0 && head_stride(c) >= 0 && head_stride(y) >= 0;
  const int64_t sequences = y.shape()[0], heads = y.shape()[1];
  for (int64_t b = 0; b < (all ? 1 : sequences); ++b) {
    const auto side = [&](const Tensor& x, Side s) {
      const Matrices m = of_sequence(x, b, all);
      return s == Side::transposed ? transposed(m) : m;
    };
    multiply({.op = "attention",
              .a = side(a, of_a),
              .b = side(c, of_c),
              .y = of_sequence(y, b, all),
              .batch = all ? sequences * heads : heads});
  }
}

// --- what lies between them ------------------------------------------------------------------------------------------

// [b, h, n, m] that is broadcast: strides may be 0.
struct Beside {
  Data data;
  int64_t stride[4] = {};
  explicit Beside(const Tensor& x) : data(data_of(x)) {
    for (int d = 0; x.defined() && d < 4; ++d) stride[d] = x.strides()[d];
  }
};

struct Scores {
  Beside mask, bias;
  int h, n, m;
  int64_t left, right;  // key j is seen where -right <= (i - n) - (j - m) <= left
  AttentionFn fn;
  float scale;
};

// One row of scores: of head `head` of sequence b, query i.
struct ScoreRow {
  const Scores& p;
  int64_t mask, bias;
  int end;  // (i - n) + m

  __device__ ScoreRow(const Scores& p, int64_t row) : p(p) {
    const int64_t i = row % p.n, head = row / p.n % p.h, b = row / p.n / p.h;
    mask = b * p.mask.stride[0] + head * p.mask.stride[1] + i * p.mask.stride[2];
    bias = b * p.bias.stride[0] + head * p.bias.stride[1] + i * p.bias.stride[2];
    end = static_cast<int>(i) - p.n + p.m;
  }
  __device__ bool sees(int j) const {
    return end - j <= p.left && end - j >= -p.right &&
           (!p.mask.data.data || static_cast<const bool*>(p.mask.data.data)[mask + j * p.mask.stride[3]]);
  }
  __device__ float score(float product, int j) const {
    return product * p.scale + (p.bias.data.data ? p.bias.data.load<float>(bias + j * p.bias.stride[3]) : 0.0f);
  }
};

template <class F>
__device__ void with_fn(AttentionFn f, F&& body) {
  if (f == AttentionFn::relu_squared)
    body(fn::ReluSquared{});
  else
    body(fn::Laplace{});
}

// s, w: [rows, m]; a warp a row, V elements at a time.
template <int V>
__global__ void __launch_bounds__(kThreads) weights_kernel(Scores p, const float* s, BFloat16* w, int64_t rows) {
  with_fn(p.fn, [&](auto f) {
    for (int64_t row = int64_t{blockIdx.x} * (kThreads / 32) + threadIdx.x / 32; row < rows;
         row += int64_t{gridDim.x} * (kThreads / 32)) {
      const ScoreRow r(p, row);
      for (int j = threadIdx.x % 32 * V; j < p.m; j += 32 * V) {
        const auto in = *reinterpret_cast<const RowPack<float, V>*>(s + row * p.m + j);
        RowPack<BFloat16, V> out;
#pragma unroll
        for (int e = 0; e < V; ++e) out.v[e] = narrow<BFloat16>(r.sees(j + e) ? f(r.score(in.v[e], j + e)) : 0.0f);
        *reinterpret_cast<RowPack<BFloat16, V>*>(w + row * p.m + j) = out;
      }
    }
  });
}

// w: the weights again; ds: scale times the gradient of what f gets. Where keep, dw becomes that gradient itself.
template <int V>
__global__ void __launch_bounds__(kThreads)
    scores_grad_kernel(Scores p, const float* s, float* dw, BFloat16* w, BFloat16* ds, bool keep, int64_t rows) {
  with_fn(p.fn, [&](auto f) {
    for (int64_t row = int64_t{blockIdx.x} * (kThreads / 32) + threadIdx.x / 32; row < rows;
         row += int64_t{gridDim.x} * (kThreads / 32)) {
      const ScoreRow r(p, row);
      for (int j = threadIdx.x % 32 * V; j < p.m; j += 32 * V) {
        const int64_t at = row * p.m + j;
        const auto in = *reinterpret_cast<const RowPack<float, V>*>(s + at);
        auto g = *reinterpret_cast<const RowPack<float, V>*>(dw + at);
        RowPack<BFloat16, V> weight, grad;
#pragma unroll
        for (int e = 0; e < V; ++e) {
          const bool seen = r.sees(j + e);
          const float x = r.score(in.v[e], j + e);
          g.v[e] = seen ? g.v[e] * f.derivative(x) : 0.0f;
          weight.v[e] = narrow<BFloat16>(seen ? f(x) : 0.0f);
          grad.v[e] = narrow<BFloat16>(p.scale * g.v[e]);
        }
        *reinterpret_cast<RowPack<BFloat16, V>*>(w + at) = weight;
        *reinterpret_cast<RowPack<BFloat16, V>*>(ds + at) = grad;
        if (keep) *reinterpret_cast<RowPack<float, V>*>(dw + at) = g;
      }
    }
  });
}

// What both passes begin with.
struct Weighing {
  Shape full;  // [b, h, n, m]
  Scores p;
  Tensor scores;

  Weighing(const Tensor& q, const Tensor& k, const Tensor& mask, const Tensor& bias, const AttentionArgs& args)
      : full{q.shape()[0], q.shape()[1], q.shape()[2], k.shape()[2]},
        p{Beside(mask),
          Beside(bias),
          static_cast<int>(full[1]),
          static_cast<int>(full[2]),
          static_cast<int>(full[3]),
          args.left,
          args.right,
          args.fn,
          static_cast<float>(args.scale)},
        scores(empty(full, float32, q.device())) {
    multiply_heads(with_rows(q), Side::as_is, with_rows(k), Side::transposed, scores);
  }
  int64_t rows() const { return full[0] * full[1] * full[2]; }
  // f(V) with what divides a row.
  template <class F>
  void launch_rows(F&& f) const {
    const auto blocks = static_cast<unsigned>(std::min<int64_t>((rows() + 7) / 8, 132 * 64));
    if (p.m % 4 == 0)
      f(std::integral_constant<int, 4>{}, blocks);
    else
      f(std::integral_constant<int, 1>{}, blocks);
    check_cuda(cudaGetLastError(), "attention");
  }
};

}  // namespace

bool products_forward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, const Tensor& bias,
                      const AttentionArgs& args, Tensor& out) {
  if (!fits(q, k, v, args)) return false;
  const Weighing a(q, k, mask, bias, args);
  const Tensor weights = empty(a.full, bfloat16, q.device());
  a.launch_rows([&]<int V>(std::integral_constant<int, V>, unsigned blocks) {
    weights_kernel<V>
        <<<blocks, kThreads, 0, stream()>>>(a.p, a.scores.data<float>(), weights.data<BFloat16>(), a.rows());
  });
  multiply_heads(weights, Side::as_is, with_rows(v), Side::as_is, out);
  return true;
}

bool products_backward(const Tensor& q0, const Tensor& k0, const Tensor& v, const Tensor& mask, const Tensor& bias,
                       const AttentionArgs& args, const Tensor& dout0, Tensor& dq, Tensor& dk, Tensor& dv,
                       Tensor& dbias) {
  if (!fits(q0, k0, v, args)) return false;
  const Tensor q = with_rows(q0), k = with_rows(k0), dout = with_rows(dout0);
  const Weighing a(q, k, mask, bias, args);
  const Tensor dweights = empty(a.full, float32, q.device()), weights = empty(a.full, bfloat16, q.device()),
               dscores = empty(a.full, bfloat16, q.device());
  multiply_heads(dout, Side::as_is, with_rows(v), Side::transposed, dweights);
  a.launch_rows([&]<int V>(std::integral_constant<int, V>, unsigned blocks) {
    scores_grad_kernel<V><<<blocks, kThreads, 0, stream()>>>(a.p, a.scores.data<float>(), dweights.data<float>(),
                                                             weights.data<BFloat16>(), dscores.data<BFloat16>(),
                                                             dbias.defined(), a.rows());
  });
  multiply_heads(weights, Side::transposed, dout, Side::as_is, dv);
  multiply_heads(dscores, Side::as_is, k, Side::as_is, dq);
  multiply_heads(dscores, Side::transposed, q, Side::as_is, dk);
  if (!dbias.defined()) return true;
  Shape shared;  // dimensions in which one entry of the bias serves all
  for (int64_t d = 0; d < 4; ++d) {
    if (dbias.shape()[d] == 1 && a.full[d] > 1) shared.push_back(d);
  }
  dbias = shared.empty() ? dweights : sum(dweights, shared, keepdim);
  return true;
}

}  // namespace weft::cuda

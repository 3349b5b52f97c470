// Attention, plain: a block a query (forward, dq), a block a key (dk, dv), a thread an entry of the bias's gradient.
// Scores are recomputed from q and k wherever they are needed, so nothing of size n×m is kept.
#include <weft/cuda/attention_half.h>
#include <weft/cuda/attention_hopper.h>
#include <weft/ops/philox.h>
#include <weft/cuda/block.cuh>

#include <cmath>
#include <limits>

namespace weft::cuda {

namespace {

struct Rows {  // a [b, h, n, d] tensor
  Data data;
  int64_t sb, sh, sn, sd;
  template <class C>
  __device__ C at(int64_t b, int64_t h, int64_t i, int64_t e) const {
    return data.load<C>(b * sb + h * sh + i * sn + e * sd);
  }
};
Rows rows(const Tensor& x) {
  if (!x.defined()) return {};
  const Shape& s = x.strides();
  return {data_of(x), s[0], s[1], s[2], s[3]};
}

struct Basic {
  AttentionFn fn;
  bool causal;
  double scale, dropout;
  PhiloxAt random;
};

struct Problem {
  Rows q, k, v, mask, bias, dout;
  Basic args;
  int64_t b, h, hk, n, m, d, dv;

  __device__ int64_t kv(int64_t head) const { return head / (h / hk); }
  __device__ bool allowed(int64_t ib, int64_t ih, int64_t i, int64_t j) const {
    if (args.causal && j > i + m - n) return false;
    return !mask.data.data || mask.at<bool>(ib, ih, i, j);
  }
  template <class C>
  __device__ C score(int64_t ib, int64_t ih, int64_t i, int64_t j) const {
    if (!allowed(ib, ih, i, j)) return minus_infinity<C>();
    C s = 0;
    for (int64_t e = 0; e < d; ++e) s += q.at<C>(ib, ih, i, e) * k.at<C>(ib, kv(ih), j, e);
    s *= C(args.scale);
    return bias.data.data ? s + bias.at<C>(ib, ih, i, j) : s;
  }
  // What a weight is multiplied with by dropout: 0 or 1/(1-p).
  template <class C>
  __device__ C keep(int64_t ib, int64_t ih, int64_t i, int64_t j) const {
    if (args.dropout == 0) return C(1);
    const Generator::State at = args.random.get();
    const bool kept = to_uniform(philox_word(at.seed, at.offset, ((ib * h + ih) * n + i) * m + j)) >=
                      static_cast<float>(args.dropout);
    return kept ? C(1 / (1 - args.dropout)) : C(0);
  }
  template <class C>
  __device__ C weight(C s, C lse) const {
    if (s == minus_infinity<C>()) return C(0);
    if (args.fn == AttentionFn::softmax) return lse == minus_infinity<C>() ? C(0) : ::exp(s - lse);
    return args.fn == AttentionFn::relu_squared ? fn::ReluSquared{}(s) : fn::Laplace{}(s);
  }
  // The gradient of a score, from dout·v, once dropped as the weight was; delta = Σ dout·out - dlse.
  template <class C>
  __device__ C score_gradient(C s, C lse, C delta, C dp) const {
    if (s == minus_infinity<C>()) return C(0);
    if (args.fn == AttentionFn::softmax) return weight(s, lse) * (dp - delta);
    return dp * (args.fn == AttentionFn::relu_squared ? fn::ReluSquared{}.derivative(s) : fn::Laplace{}.derivative(s));
  }
  template <class C>
  __device__ C dout_v(int64_t ib, int64_t ih, int64_t i, int64_t j) const {
    C s = 0;
    for (int64_t e = 0; e < dv; ++e) s += dout.at<C>(ib, ih, i, e) * v.at<C>(ib, kv(ih), j, e);
    return s;
  }
};

Problem problem(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, const Tensor& bias,
                const AttentionArgs& args, const Tensor& dout) {
  return {rows(q),
          rows(k),
          rows(v),
          rows(mask),
          rows(bias),
          rows(dout),
          {args.fn, args.causal, args.scale, args.dropout, philox_at(args.at)},
          q.shape()[0],
          q.shape()[1],
          k.shape()[1],
          q.shape()[2],
          k.shape()[2],
          q.shape()[3],
          v.shape()[3]};
}

// acc: [b·h·n, dv], zeros, in C.
template <class C>
__global__ void forward_kernel(Problem p, C* acc, Data lse) {
  __shared__ C part[kThreads], w[kThreads];
  const bool softmax = p.args.fn == AttentionFn::softmax;
  WEFT_ROW_LOOP(row, p.b * p.h * p.n) {
    const int64_t i = row % p.n, ih = row / p.n % p.h, ib = row / (p.n * p.h);
    C top = minus_infinity<C>(), total = 0;
    C* out = acc + row * p.dv;
    for (int64_t j0 = 0; j0 < p.m; j0 += kThreads) {
      const int64_t j = j0 + threadIdx.x, count = p.m - j0 < kThreads ? p.m - j0 : kThreads;
      const C s = j < p.m ? p.score<C>(ib, ih, i, j) : minus_infinity<C>();
      C mine = 0, shrink = 1;
      if (softmax) {
        const C high = block_max(s, part), next = high > top ? high : top;
        mine = s == minus_infinity<C>() ? C(0) : ::exp(s - next);
        shrink = top == minus_infinity<C>() ? C(0) : ::exp(top - next);
        total = total * shrink + block_sum(mine, part);
        top = next;
      } else if (j < p.m) {
        mine = p.weight(s, C(0));
      }
      __syncthreads();
      w[threadIdx.x] = j < p.m ? mine * p.keep<C>(ib, ih, i, j) : C(0);
      __syncthreads();
      WEFT_THREAD_LOOP(e, p.dv) {
        C sum = j0 == 0 ? C(0) : out[e] * shrink;
        for (int64_t t = 0; t < count; ++t) sum += w[t] * p.v.at<C>(ib, p.kv(ih), j0 + t, e);
        out[e] = sum;
      }
    }
    if (!softmax) continue;
    WEFT_THREAD_LOOP(e, p.dv) out[e] = total > C(0) ? out[e] / total : C(0);
    if (threadIdx.x == 0) lse.store(row, total > C(0) ? top + ::log(total) : minus_infinity<C>());
  }
}

// delta[row] = Σ dout·out - dlse
template <class C>
__global__ void delta_kernel(Problem p, Rows out, Data dlse, C* delta) {
  WEFT_GRID_LOOP(row, p.b * p.h * p.n) {
    C sum = 0;
    for (int64_t e = 0; e < p.dv; ++e)
      sum += out.at<C>(row / (p.n * p.h), row / p.n % p.h, row % p.n, e) *
             p.dout.at<C>(row / (p.n * p.h), row / p.n % p.h, row % p.n, e);
    delta[row] = sum - dlse.load<C>(row);
  }
}

template <class C>
__device__ C lse_of(const Problem& p, const Data& lse, int64_t row) {
  return p.args.fn == AttentionFn::softmax ? lse.load<C>(row) : C(0);
}

// acc: [b·h·n, d], zeros.
template <class C>
__global__ void dq_kernel(Problem p, Data lse, const C* delta, C* acc) {
  __shared__ C ds[kThreads];
  WEFT_ROW_LOOP(row, p.b * p.h * p.n) {
    const int64_t i = row % p.n, ih = row / p.n % p.h, ib = row / (p.n * p.h);
    const C l = lse_of<C>(p, lse, row);
    for (int64_t j0 = 0; j0 < p.m; j0 += kThreads) {
      const int64_t j = j0 + threadIdx.x, count = p.m - j0 < kThreads ? p.m - j0 : kThreads;
      __syncthreads();
      if (j < p.m)
        ds[threadIdx.x] = p.score_gradient(p.score<C>(ib, ih, i, j), l, delta[row],
                                           p.dout_v<C>(ib, ih, i, j) * p.keep<C>(ib, ih, i, j));
      __syncthreads();
      WEFT_THREAD_LOOP(e, p.d) {
        C sum = acc[row * p.d + e];
        for (int64_t t = 0; t < count; ++t) sum += C(p.args.scale) * ds[t] * p.k.at<C>(ib, p.kv(ih), j0 + t, e);
        acc[row * p.d + e] = sum;
      }
    }
  }
}

// dk: [b·hk·m, d], dv: [b·hk·m, dv], zeros.
template <class C>
__global__ void dkv_kernel(Problem p, Data lse, const C* delta, C* dk, C* dv) {
  __shared__ C ds[kThreads], w[kThreads];
  const int64_t group = p.h / p.hk;
  WEFT_ROW_LOOP(key, p.b * p.hk * p.m) {
    const int64_t j = key % p.m, hk = key / p.m % p.hk, ib = key / (p.m * p.hk);
    for (int64_t ih = hk * group; ih < (hk + 1) * group; ++ih) {
      for (int64_t i0 = 0; i0 < p.n; i0 += kThreads) {
        const int64_t i = i0 + threadIdx.x, count = p.n - i0 < kThreads ? p.n - i0 : kThreads;
        __syncthreads();
        if (i < p.n) {
          const int64_t row = (ib * p.h + ih) * p.n + i;
          const C s = p.score<C>(ib, ih, i, j), l = lse_of<C>(p, lse, row), keep = p.keep<C>(ib, ih, i, j);
          w[threadIdx.x] = p.weight(s, l) * keep;
          ds[threadIdx.x] = p.score_gradient(s, l, delta[row], p.dout_v<C>(ib, ih, i, j) * keep);
        }
        __syncthreads();
        WEFT_THREAD_LOOP(e, p.d) {
          C sum = dk[key * p.d + e];
          for (int64_t t = 0; t < count; ++t) sum += C(p.args.scale) * ds[t] * p.q.at<C>(ib, ih, i0 + t, e);
          dk[key * p.d + e] = sum;
        }
        WEFT_THREAD_LOOP(e, p.dv) {
          C sum = dv[key * p.dv + e];
          for (int64_t t = 0; t < count; ++t) sum += w[t] * p.dout.at<C>(ib, ih, i0 + t, e);
          dv[key * p.dv + e] = sum;
        }
      }
    }
  }
}

struct Four {
  int64_t of[4];
};

// dbias[b', h', i', j'] = Σ of the score gradients that share the entry.
template <class C>
__global__ void dbias_kernel(Problem p, Data lse, const C* delta, Four own, Four shared, C* dbias) {
  WEFT_GRID_LOOP(entry, own.of[0] * own.of[1] * own.of[2] * own.of[3]) {
    int64_t at[4], rest = entry;
    for (int d = 3; d >= 0; --d) at[d] = rest % own.of[d], rest /= own.of[d];
    C sum = 0;
    for (int64_t s = 0; s < shared.of[0] * shared.of[1] * shared.of[2] * shared.of[3]; ++s) {
      int64_t in[4], left = s;
      for (int d = 3; d >= 0; --d) in[d] = own.of[d] == 1 ? left % shared.of[d] : at[d], left /= shared.of[d];
      const int64_t row = (in[0] * p.h + in[1]) * p.n + in[2];
      if (!p.allowed(in[0], in[1], in[2], in[3])) continue;
      sum += p.score_gradient(p.score<C>(in[0], in[1], in[2], in[3]), lse_of<C>(p, lse, row), delta[row],
                              p.dout_v<C>(in[0], in[1], in[2], in[3]) * p.keep<C>(in[0], in[1], in[2], in[3]));
    }
    dbias[entry] = sum;
  }
}

template <class C>
Tensor zeros_for(const Tensor& x) {
  Tensor t = empty(x.shape(), dtype_of<C>(), x.device());
  if (t.numel())
    check_cuda(cudaMemsetAsync(t.raw_data(), 0, static_cast<size_t>(t.numel()) * sizeof(C), stream()), "attention");
  return t;
}

}  // namespace

void attention_forward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, const Tensor& bias,
                       const AttentionArgs& args, Tensor& out, Tensor& lse) {
  DeviceScope scope(q);
  if (args.basic() && hopper_forward(q, k, v, mask, bias, args, out, lse)) return;
  if (half_forward(q, k, v, mask, bias, args, out, lse)) return;
  dispatch_float(q.dtype(), [&]<class C>(Type<C>) {
    const Problem p = problem(q, k, v, mask, bias, args, {});
    const Tensor acc = zeros_for<C>(out);
    launch_rows("attention", p.b * p.h * p.n, forward_kernel<C>, p, acc.data<C>(), data_of(lse));
    out.copy_(acc);
  });
}

void attention_backward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, const Tensor& bias,
                        const AttentionArgs& args, const Tensor& out, const Tensor& lse, const Tensor& dout,
                        const Tensor& dlse, Tensor& dq, Tensor& dk, Tensor& dv, Tensor& dbias) {
  DeviceScope scope(q);
  dispatch_float(q.dtype(), [&]<class C>(Type<C>) {
    const Problem p = problem(q, k, v, mask, bias, args, dout);
    const int64_t n = p.b * p.h * p.n;
    const Tensor delta = empty({n}, dtype_of<C>(), q.device()), aq = zeros_for<C>(dq), ak = zeros_for<C>(dk),
                 av = zeros_for<C>(dv);
    if (n) check_cuda(cudaMemsetAsync(delta.raw_data(), 0, static_cast<size_t>(n) * sizeof(C), stream()), "attention");
    if (args.fn == AttentionFn::softmax)
      launch("attention", n, delta_kernel<C>, p, rows(out), data_of(dlse), delta.data<C>());
    launch_rows("attention", n, dq_kernel<C>, p, data_of(lse), delta.data<C>(), aq.data<C>());
    launch_rows("attention", p.b * p.hk * p.m, dkv_kernel<C>, p, data_of(lse), delta.data<C>(), ak.data<C>(),
                av.data<C>());
    dq.copy_(aq), dk.copy_(ak), dv.copy_(av);
    if (!dbias.defined()) return;
    const Shape full{p.b, p.h, p.n, p.m};
    Four own, shared;
    for (int d = 0; d < 4; ++d) own.of[d] = dbias.shape()[d], shared.of[d] = own.of[d] == 1 ? full[d] : 1;
    launch("attention", dbias.numel(), dbias_kernel<C>, p, data_of(lse), delta.data<C>(), own, shared, dbias.data<C>());
  });
}

}  // namespace weft::cuda

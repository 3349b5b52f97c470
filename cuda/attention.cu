// Attention: which kernels a case goes to, and the host's side of those that take any. Hopper's own
// (attention_hopper.h) come first, then products (attention_products.h) and tensor cores for half types
// (attention_half.h), then plain arithmetic.
#include <weft/cuda/attention_half.h>
#include <weft/cuda/attention_hopper.h>
#include <weft/cuda/attention_products.h>
#include <weft/ops/copy.h>
#include <weft/cuda/attention_plain.cuh>

namespace weft::cuda {

namespace {

using namespace attention;

Strided strided(const Tensor& x) {
  if (!x.defined()) return {};
  const Shape& s = x.strides();
  return {data_of(x), s[0], s[1], s[2], s[3]};
}

template <class C>
PlainProblem<C> plain_problem(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, const Tensor& bias,
                              const AttentionArgs& args, const Tensor& out, const Tensor& lse) {
  PlainProblem<C> p{};
  p.base = problem(q, k, v, mask, {}, args);
  p.q = strided(q), p.k = strided(k), p.v = strided(v), p.bias = strided(bias), p.out = strided(out);
  if (lse.defined()) p.lse = lse.data<C>();
  if (args.alibi.defined()) p.alibi = args.alibi.data<C>();
  p.scale = args.scale, p.kept = args.dropout < 1 ? 1 / (1 - args.dropout) : 0;
  return p;
}

// Blocks: tiles of n for heads of all sequences, and of 64 columns.
template <class... Params, class... Args>
void launch_plain(void (*kernel)(Params...), int bytes, int64_t n, int64_t heads, int64_t columns, Args&&... args) {
  auto tiles = [](int64_t size) { return (size + kSide - 1) / kSide; };
  if (columns == 0) return;
  launch_shared(kernel, dim3(static_cast<unsigned>(tiles(n) * heads), static_cast<unsigned>(tiles(columns))),
                kPlainThreads, bytes, std::forward<Args>(args)...);
}

template <class C>
void plain_bias(const PlainProblem<C>& p, Tensor& dbias) {
  const Problem& base = p.base;
  const int all[4] = {base.sequences, base.h, (base.n + kSide - 1) / kSide, (base.m + kSide - 1) / kSide};
  PlainBias plan{};
  int64_t owned = 1, shares = 1;
  for (int d = 0; d < 4; ++d) {
    const bool is_shared = dbias.shape()[d] == 1;
    plan.own[d] = is_shared ? 1 : all[d], plan.shared[d] = is_shared ? all[d] : 1;
    plan.stride[d] = is_shared ? 0 : dbias.strides()[d];
    owned *= plan.own[d], shares *= plan.shared[d];
  }
  if (shares > 0)
    launch_shared(plain_bias_kernel<C>, dim3(static_cast<unsigned>(owned)), kPlainThreads, int{sizeof(Shared<C>)}, p,
                  plan, dbias.data<C>());
}

}  // namespace

void attention_forward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, const Tensor& bias,
                       const AttentionArgs& args, Tensor& out, Tensor& lse) {
  DeviceScope scope(q);
  if (args.basic() && hopper_forward(q, k, v, mask, bias, args, out, lse)) return;
  if (products_forward(q, k, v, mask, bias, args, out)) return;
  if (half_forward(q, k, v, mask, bias, args, out, lse)) return;
  if (args.cu_q.defined()) {  // rows of no sequence
    fill_into(out, 0);
    if (lse.defined()) fill_into(lse, kNone);
  }
  dispatch_float(q.dtype(), [&]<class C>(Type<C>) {
    const PlainProblem<C> p = plain_problem<C>(q, k, v, mask, bias, args, out, lse);
    const int heads = p.base.sequences * p.base.h, dv = p.base.dv_size;
    if (q.dtype() == dtype_of<C>() && args.max_q <= kFewQueries && std::max(p.base.d, dv) <= kFewWidth)
      return launch_shared(few_forward_kernel<C>, dim3(static_cast<unsigned>(args.max_q * heads)), kFewThreads,
                           static_cast<int>(sizeof(C)) * kFewWarps * (2 + dv), p);
    launch_plain(plain_forward_kernel<C>, sizeof(Shared<C>), args.max_q, p.base.sequences * p.base.h,
                 std::max(p.base.dv_size, 1), p);
  });
}

void attention_backward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask, const Tensor& bias,
                        const AttentionArgs& args, const Tensor& out, const Tensor& lse, const Tensor& dout,
                        const Tensor& dlse, Tensor& dq, Tensor& dk, Tensor& dv, Tensor& dbias) {
  DeviceScope scope(q);
  if (args.basic() && hopper_backward(q, k, v, mask, bias, args, out, lse, dout, dlse, dq, dk, dv, dbias)) return;
  if (products_backward(q, k, v, mask, bias, args, dout, dq, dk, dv, dbias)) return;
  if (half_backward(q, k, v, mask, bias, args, out, lse, dout, dlse, dq, dk, dv, dbias)) return;
  if (args.cu_q.defined()) {
    for (Tensor* x : {&dq, &dk, &dv}) fill_into(*x, 0);
  }
  dispatch_float(q.dtype(), [&]<class C>(Type<C>) {
    constexpr int kBytes = sizeof(Shared<C>);
    PlainProblem<C> p = plain_problem<C>(q, k, v, mask, bias, args, out, lse);
    const int64_t rows = q.shape()[0] * p.base.h * p.base.n, sequences = p.base.sequences;
    const Tensor delta = empty({rows}, dtype_of<C>(), q.device());
    p.delta = delta.template data<C>();
    p.dout = strided(dout), p.dq = strided(dq), p.dk = strided(dk), p.dv = strided(dv);
    if (p.base.softmax())
      launch_shared(
          plain_delta_kernel<C>,
          dim3(static_cast<unsigned>(std::min<int64_t>((rows + kPlainThreads - 1) / kPlainThreads, 132 * 16))),
          kPlainThreads, 0, p, dlse.defined() ? dlse.data<C>() : nullptr, rows);
    launch_plain(plain_dq_kernel<C>, kBytes, args.max_q, sequences * p.base.h, p.base.d, p);
    launch_plain(plain_dkv_kernel<C, false>, kBytes, args.max_k, sequences * p.base.hk, p.base.d, p);
    launch_plain(plain_dkv_kernel<C, true>, kBytes, args.max_k, sequences * p.base.hk, p.base.dv_size, p);
    if (dbias.defined()) plain_bias(p, dbias);
  });
}

}  // namespace weft::cuda

#include <weft/cpu/strided.h>
#include <weft/ops/optim.h>

#include <cmath>

namespace weft::cpu {

namespace {

// f(tensor, begin, end) over fixed chunks of all tensors together.
template <class F>
void for_chunks(const Tensors& xs, F&& f) {
  for (size_t i = 0; i < xs.size(); ++i) {
    parallel_for(xs[i].numel(), kGrain, [&](int64_t begin, int64_t end) { f(i, begin, end); });
  }
}

// y ← f(y, xs...) on a chunk, in compute type C, block by block.
template <class C, class F>
void update(const Tensor& y, int64_t begin, int64_t end, F&& f) {
  In<C> in(y, 1);
  Out<C> out(y, 1);
  for (int64_t at = begin; at < end; at += kBlock) {
    const int64_t n = std::min(kBlock, end - at);
    const C* old = in.block(at, n);
    C* fresh = out.begin(at);
    f(at, n, old, fresh);
    out.finish(at, n);
  }
}

double factor_of(const Tensor& norm, double max_norm) {
  double total = 0;
  load(norm, 0, 1, 1, &total);
  const double factor = max_norm / (total + 1e-6);
  return factor >= 1 ? 1 : factor;  // a NaN stays one
}
double factor_of(const ClipByNorm& clip) { return clip.norm.defined() ? factor_of(clip.norm, clip.max_norm) : 1; }

template <class C>
void adam_chunk(const Tensor& param, const Tensor& grad, const Tensor& m, const Tensor& v, const AdamArgs& a, C factor,
                int64_t begin, int64_t end) {
  const C b1 = C(a.beta1), b2 = C(a.beta2), eps = C(a.eps), one_b1 = C(1 - a.beta1), one_b2 = C(1 - a.beta2);
  const double correction1 = 1 - std::pow(a.beta1, static_cast<double>(a.step)),
               correction2 = 1 - std::pow(a.beta2, static_cast<double>(a.step));
  const C step_size = C(a.lr / correction1), root = C(1 / std::sqrt(correction2));
  const C keep = C(a.decoupled ? 1 - a.lr * a.weight_decay : 1), decay = C(a.decoupled ? 0 : a.weight_decay);
  C *pm = m.data<C>(), *pv = v.data<C>();
  In<C> gradient(grad, 1);
  update<C>(param, begin, end, [&](int64_t at, int64_t n, const C* old, C* fresh) {
    const C* g = gradient.block(at, n);
    C *mi = pm + at, *vi = pv + at;
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) {
      const C gi = factor * g[i] + decay * old[i];
      mi[i] = b1 * mi[i] + one_b1 * gi;
      vi[i] = b2 * vi[i] + one_b2 * gi * gi;
      fresh[i] = old[i] * keep - step_size * mi[i] / (std::sqrt(vi[i]) * root + eps);
    }
  });
}

template <class C>
void sgd_chunk(const Tensor& param, const Tensor& grad, const Tensor& buffer, const SgdArgs& a, C factor, int64_t begin,
               int64_t end) {
  const C lr = C(a.lr), decay = C(a.weight_decay), momentum = C(a.momentum), take = C(a.first ? 1 : 1 - a.dampening),
          keep = a.first ? C(0) : momentum;
  C* b = a.momentum != 0 ? buffer.data<C>() : nullptr;
  In<C> gradient(grad, 1);
  update<C>(param, begin, end, [&](int64_t at, int64_t n, const C* old, C* fresh) {
    const C* g = gradient.block(at, n);
    for (int64_t i = 0; i < n; ++i) {
      C gi = factor * g[i] + decay * old[i];
      if (b) {
        C& bi = b[at + i];
        bi = (a.first ? C(0) : keep * bi) + take * gi;
        gi = a.nesterov ? gi + momentum * bi : bi;
      }
      fresh[i] = old[i] - lr * gi;
    }
  });
}

template <class F>
void dispatch_state(const Tensor& param, F&& f) {
  if (param.dtype() == float64)
    f(Type<double>{});
  else
    f(Type<float>{});
}

}  // namespace

void adam(const Tensors& params, const Tensors& grads, const Tensors& m, const Tensors& v, const AdamArgs& args) {
  const double factor = factor_of(args.clip);
  for_chunks(params, [&](size_t i, int64_t begin, int64_t end) {
    dispatch_state(params[i], [&]<class C>(Type<C>) {
      adam_chunk<C>(params[i], grads[i], m[i], v[i], args, C(factor), begin, end);
    });
  });
}

void sgd(const Tensors& params, const Tensors& grads, const Tensors& buffers, const SgdArgs& args) {
  const double factor = factor_of(args.clip);
  for_chunks(params, [&](size_t i, int64_t begin, int64_t end) {
    dispatch_state(params[i], [&]<class C>(Type<C>) {
      sgd_chunk<C>(params[i], grads[i], buffers.empty() ? Tensor() : buffers[i], args, C(factor), begin, end);
    });
  });
}

void sum_squares(const Tensors& xs, Tensor& y) {
  std::vector<std::vector<double>> partial(xs.size());
  for (size_t i = 0; i < xs.size(); ++i) partial[i].resize(static_cast<size_t>((xs[i].numel() + kGrain - 1) / kGrain));
  for_chunks(xs, [&](size_t i, int64_t begin, int64_t end) {
    double total = 0;
    dispatch_compute(xs[i].dtype(), [&]<class C>(Type<C>) {
      if constexpr (!std::is_integral_v<C>) {
        In<C> in(xs[i], 1);
        for (int64_t at = begin; at < end; at += kBlock) {
          const int64_t n = std::min(kBlock, end - at);
          const C* v = in.block(at, n);
          C lane[16] = {};
          int64_t k = 0;
          for (; k + 16 <= n; k += 16) {
            for (int64_t j = 0; j < 16; ++j) lane[j] += v[k + j] * v[k + j];
          }
          for (int64_t j = 0; k < n; ++k, ++j) lane[j] += v[k] * v[k];
          for (C s : lane) total += static_cast<double>(s);
        }
      }
    });
    partial[i][static_cast<size_t>(begin / kGrain)] = total;
  });
  double total = 0;
  for (const auto& p : partial) {
    for (double s : p) total += s;
  }
  store(y, 0, 1, 1, &total);
}

namespace {
template <class F>
void scale_all(const Tensors& xs, F&& f) {
  for_chunks(xs, [&](size_t i, int64_t begin, int64_t end) {
    dispatch_state(xs[i], [&]<class C>(Type<C>) {
      update<C>(xs[i], begin, end, [&](int64_t at, int64_t n, const C* old, C* fresh) { f(i, at, n, old, fresh); });
    });
  });
}
}  // namespace

void clip(const Tensors& xs, const Tensor& norm, double max_norm) {
  const double factor = factor_of(norm, max_norm);
  if (factor >= 1) return;
  scale_all(xs, [&]<class C>(size_t, int64_t, int64_t n, const C* old, C* fresh) {
    for (int64_t i = 0; i < n; ++i) fresh[i] = old[i] * C(factor);
  });
}

void clip_value(const Tensors& xs, double limit) {
  scale_all(xs, [&]<class C>(size_t, int64_t, int64_t n, const C* old, C* fresh) {
    for (int64_t i = 0; i < n; ++i) fresh[i] = old[i] > C(limit) ? C(limit) : old[i] < C(-limit) ? C(-limit) : old[i];
  });
}

void ema(const Tensors& averages, const Tensors& xs, double decay) {
  scale_all(averages, [&]<class C>(size_t i, int64_t at, int64_t n, const C* old, C* fresh) {
    In<C> in(xs[i], 1);
    const C* x = in.block(at, n);
    for (int64_t k = 0; k < n; ++k) fresh[k] = C(decay) * old[k] + C(1 - decay) * x[k];
  });
}

}  // namespace weft::cpu

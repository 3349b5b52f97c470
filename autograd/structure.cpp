#include <weft/autograd/structure.h>
#include <weft/ops/copy.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/random.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>

#include <algorithm>
#include <cmath>

namespace weft {

namespace {

constexpr size_t kMaxOffending = 16;

Tensor leaf(const Tensor& x) { return x.detach().clone().requires_grad_(); }

Tensor noise(const Tensor& like, uint64_t seed, double scale = 1) {
  Generator g(seed);
  return mul(randn(like.shape(), {.dtype = float64}, g), scale).to(like.dtype()).to(like.device());
}

// Upstream weights without zeros: a path cannot hide by meeting a small one.
Tensor upstream(const Tensor& y) {
  Generator g(41);
  return add(rand(y.shape(), {.dtype = float64}, g), 0.5).to(y.dtype()).to(y.device());
}

Tensor call(const SequenceFn& f, const Tensor& x, const char* op) {
  Tensor y = f(x);
  check(y.defined() && y.is_floating(), op, ": the function must return a floating tensor");
  return y;
}

// What one output's gradient (or a change of values) says about every position of the input; [b, n, ...] → [b, n].
// NaN counts as infinite.
std::vector<double> magnitude(const Tensor& g, int64_t keep_dims) {
  const auto v = g.to_vector<double>();
  int64_t positions = 1;
  for (int64_t d = 0; d < keep_dims; ++d) positions *= g.size(d);
  std::vector<double> out(static_cast<size_t>(positions), 0.0);
  const size_t rest = positions ? v.size() / out.size() : 0;
  for (size_t i = 0; i < v.size(); ++i) {
    const double a = std::isnan(v[i]) ? HUGE_VAL : std::abs(v[i]);
    out[i / rest] = std::max(out[i / rest], a);
  }
  return out;
}

double largest(const std::vector<double>& v) {
  double m = 0;
  for (double e : v) m = std::max(m, std::isfinite(e) ? e : 0.0);
  return m;
}

// ‖a - b‖ / ‖b‖, infinite where a NaN is about.
double relative_error(const Tensor& a, const Tensor& b) {
  const auto va = a.to_vector<double>(), vb = b.to_vector<double>();
  double d = 0, n = 0;
  for (size_t i = 0; i < va.size(); ++i) d += (va[i] - vb[i]) * (va[i] - vb[i]), n += vb[i] * vb[i];
  const double e = n > 0 ? std::sqrt(d / n) : std::sqrt(d);
  return std::isnan(e) ? HUGE_VAL : e;
}

double size_tolerance(const StructureOptions& o, DType d) {
  if (o.size_tolerance >= 0) return o.size_tolerance;
  return d == float64 ? 1e-9 : d == float32 ? 2e-5 : 2e-2;
}

class Findings {
 public:
  Findings(const char* op, const StructureOptions& o) : op_(op), o_(o) {}

  template <class... Args>
  void add(int64_t out, int64_t in, const Args&... what) {
    ++count_;
    if (result_.message.empty()) result_.message = concat(op_, ": ", what...);
    const std::pair<int64_t, int64_t> at{out, in};
    auto& list = result_.offending;
    if (list.size() < kMaxOffending && std::find(list.begin(), list.end(), at) == list.end()) list.push_back(at);
  }
  bool any() const { return count_ > 0; }

  StructureResult done() {
    result_.ok = count_ == 0;
    if (!result_.ok) {
      result_.message += "; offending (output, input) positions:";
      for (const auto& [t, s] : result_.offending) result_.message += concat(" (", t, ", ", s, ")");
      if (result_.offending.size() == kMaxOffending) result_.message += " ...";
      if (o_.raise_exception) fail(result_.message);
    }
    return result_;
  }

 private:
  const char* op_;
  const StructureOptions& o_;
  StructureResult result_;
  int64_t count_ = 0;
};

Tensor gradient(const Tensor& y, const Tensor& x) {
  if (!y.requires_grad()) return zeros_like(x.detach());
  const Tensor g = grad({y}, {x}, {upstream(y)}, {.retain_graph = true, .allow_unused = true})[0];
  return g.defined() ? g : zeros_like(x.detach());
}

void check_sequence(const Tensor& x, const Tensor& y, const char* op) {
  check(y.dim() >= 2 && y.size(0) == x.size(0) && y.size(1) == x.size(1), op, ": expected an output [", x.size(0), ", ",
        x.size(1), ", ...] for an input ", x.shape(), ", got ", y.shape());
}

}  // namespace

StructureResult check_causal(const SequenceFn& f, const Tensor& x0, const StructureOptions& o) {
  constexpr const char* op = "check_causal";
  check(x0.is_floating() && x0.dim() >= 2, op, ": expected a floating input [b, n, ...], got ", x0.dtype(), " ",
        x0.shape());
  EnableGrad guard;
  Findings found(op, o);
  const Tensor x = leaf(x0);
  const Tensor y = call(f, x, op);
  check_sequence(x, y, op);
  const int64_t b = x.size(0), n = x.size(1);
  for (int64_t t = 0; t < n; ++t) {
    const auto g = magnitude(gradient(y.select(1, t), x), 2);  // [b, n]
    const double limit = o.tolerance * largest(g);
    for (int64_t s = t + 1; s < n; ++s) {
      for (int64_t i = 0; i < b; ++i) {
        const double v = g[static_cast<size_t>(i * n + s)];
        if (v > limit) {
          found.add(t, s, "the output at time ", t, " has a gradient of ", v, " by the input at the later time ", s,
                    " (batch row ", i, ")");
          break;
        }
      }
    }
  }
  NoGrad no_grad;
  for (int64_t s = 1; o.values && s < n; ++s) {  // another future must leave the past as it was
    Tensor changed = x.detach().clone();
    Tensor future = changed.narrow(1, s, n - s);
    future.copy_(noise(future, static_cast<uint64_t>(s), 2));
    const Tensor past = y.detach().narrow(1, 0, s);
    const auto change = magnitude(sub(call(f, changed, op).narrow(1, 0, s), past), 2);  // [b, s]
    const double limit = o.tolerance * largest(magnitude(past, 2));
    for (size_t k = 0; k < change.size(); ++k) {
      if (!(change[k] <= limit)) {
        const int64_t t = static_cast<int64_t>(k) % s;
        found.add(t, s, "the output at time ", t, " changes by ", change[k], " when inputs from time ", s,
                  " on change (a path without a gradient)");
        break;
      }
    }
  }
  return found.done();
}

StructureResult check_padding_invariance(const MaskedFn& f, const Tensor& x0, const Tensor& mask,
                                         const StructureOptions& o) {
  constexpr const char* op = "check_padding_invariance";
  check(x0.is_floating() && x0.dim() >= 2, op, ": expected a floating input [b, n, ...], got ", x0.dtype(), " ",
        x0.shape());
  const int64_t b = x0.size(0), n = x0.size(1);
  check(mask.dtype() == boolean && mask.shape() == Shape{b, n}, op, ": expected a bool mask ", Shape{b, n}, ", got ",
        mask.dtype(), " ", mask.shape());
  const auto kept = mask.to_vector<bool>();
  EnableGrad guard;
  Findings found(op, o);
  const auto with_mask = [&](const Tensor& m) { return [&f, m](const Tensor& x) { return f(x, m); }; };
  const Tensor x = leaf(x0);
  const Tensor y = call(with_mask(mask), x, op);
  check_sequence(x, y, op);

  const auto size = magnitude(y.detach(), 2);
  for (size_t k = 0; k < kept.size(); ++k) {
    const int64_t t = static_cast<int64_t>(k) % n;
    if (kept[k] && !std::isfinite(size[k])) found.add(t, t, "the output at the kept time ", t, " is not finite");
  }
  for (int64_t t = 0; t < n; ++t) {
    for (int64_t i = 0; i < b; ++i) {
      if (!kept[static_cast<size_t>(i * n + t)]) continue;
      const auto g = magnitude(gradient(y.select(1, t).select(0, i), x), 2);
      const double limit = o.tolerance * largest(g);
      for (int64_t s = 0; s < n; ++s) {
        for (int64_t j = 0; j < b; ++j) {
          const double v = g[static_cast<size_t>(j * n + s)];
          if (!kept[static_cast<size_t>(j * n + s)] && v > limit)
            found.add(t, s, "the output at the kept time ", t, " (batch row ", i, ") has a gradient of ", v,
                      " by the masked input at time ", s, " (batch row ", j, ")");
        }
      }
    }
  }
  if (!o.values) return found.done();

  NoGrad no_grad;
  Shape wide = mask.shape();
  while (wide.size() < x.dim()) wide.push_back(1);
  // Kept positions of two results must agree; report says what was done to the padding.
  const auto compare = [&](const Tensor& other, double tolerance, const char* report) {
    const auto change = magnitude(sub(other, y.detach()), 2);
    const double limit = tolerance * largest(size);
    for (size_t k = 0; k < kept.size(); ++k) {
      const int64_t t = static_cast<int64_t>(k) % n;
      if (kept[k] && !(change[k] <= limit))
        found.add(t, t, "the output at the kept time ", t, " (batch row ", static_cast<int64_t>(k) / n, ") changes by ",
                  change[k], " when ", report);
    }
  };
  for (const double scale : {1.0, 100.0}) {
    const Tensor changed = where(mask.reshape(wide), x.detach(), noise(x.detach(), 7, scale));
    compare(call(with_mask(mask), changed, op), o.tolerance, "masked inputs change");
  }
  if (o.extra_padding > 0) {
    Shape more = x.shape(), more_mask = mask.shape();
    more[1] = more_mask[1] = o.extra_padding;
    const Tensor filler = noise(empty(more, x.dtype(), x.device()), 11);
    const Tensor m = cat({mask, zeros(more_mask, {.dtype = boolean, .device = mask.device()})}, 1);
    const Tensor longer = call(with_mask(m), cat({x.detach(), filler}, 1), op);
    compare(longer.narrow(1, 0, n), size_tolerance(o, y.dtype()), "more padding follows");
  }
  return found.done();
}

StructureResult check_batch_independence(const SequenceFn& f, const Tensor& x0, const StructureOptions& o) {
  constexpr const char* op = "check_batch_independence";
  check(x0.is_floating() && x0.dim() >= 1 && x0.size(0) >= 2, op, ": expected a floating input [b >= 2, ...], got ",
        x0.dtype(), " ", x0.shape());
  EnableGrad guard;
  Findings found(op, o);
  const Tensor x = leaf(x0);
  const Tensor y = call(f, x, op);
  const int64_t b = x.size(0);
  check(y.dim() >= 1 && y.size(0) == b, op, ": expected an output [", b, ", ...], got ", y.shape());
  for (int64_t i = 0; i < b; ++i) {
    const auto g = magnitude(gradient(y.select(0, i), x), 1);  // [b]
    const double limit = o.tolerance * largest(g);
    for (int64_t j = 0; j < b; ++j) {
      const double v = g[static_cast<size_t>(j)];
      if (j != i && v > limit)
        found.add(i, j, "row ", i, " of the output has a gradient of ", v, " by row ", j, " of the input");
    }
  }
  NoGrad no_grad;
  for (int64_t j = 0; o.values && j < b; ++j) {
    Tensor changed = x.detach().clone();
    Tensor row = changed.select(0, j);
    row.copy_(noise(row, static_cast<uint64_t>(j) + 1, 2));
    const auto change = magnitude(sub(call(f, changed, op), y.detach()), 1);
    const double limit = o.tolerance * largest(magnitude(y.detach(), 1));
    for (int64_t i = 0; i < b; ++i) {
      const double v = change[static_cast<size_t>(i)];
      if (i != j && !(v <= limit))
        found.add(i, j, "row ", i, " of the output changes by ", v, " when row ", j,
                  " of the input changes (a path without a gradient)");
    }
    const double e = relative_error(call(f, x.detach().narrow(0, j, 1), op).select(0, 0), y.detach().select(0, j));
    if (!(e <= size_tolerance(o, y.dtype())))
      found.add(j, j, "row ", j, " alone gives another result than within the batch: relative error ", e);
  }
  return found.done();
}

}  // namespace weft

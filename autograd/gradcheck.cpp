#include <weft/autograd/gradcheck.h>
#include <weft/ops/copy.h>
#include <weft/ops/create.h>
#include <weft/ops/random.h>
#include <weft/ops/shape.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <utility>

namespace weft {

namespace {

using Values = std::vector<double>;

// A failed check; caught where raise_exception is looked at.
struct Failed {
  std::string message;
};
template <class... Args>
[[noreturn]] void failed(const Args&... args) {
  throw Failed{concat(args...)};
}

Shape position(int64_t flat, const Shape& shape) {
  Shape index = shape;
  for (int64_t d = shape.size() - 1; d >= 0; --d) index[d] = flat % shape[d], flat /= shape[d];
  return index;
}

// A difference quotient has no more than about seven good digits.
std::string digits(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.7g", v);
  return text;
}

double dot(const Values& a, const Values& b) {
  double s = 0;
  for (size_t i = 0; i < a.size(); ++i) s += a[i] * b[i];
  return s;
}

Values random_values(int64_t n, uint64_t stream) {
  Generator g(0x6c62272e07bb0142u + stream);
  return randn({n}, {.dtype = float64}, g).to_vector<double>();
}

Tensor from_values(const Values& v, const Tensor& like) {
  return tensor(v, like.shape(), {.dtype = like.dtype(), .device = like.device()});
}

// The element of x at a flat index as a 0-dim view, to be varied in place on any device.
Tensor element(const Tensor& x, int64_t flat) {
  int64_t offset = x.impl().offset;
  const Shape at = position(flat, x.shape());
  for (int64_t d = 0; d < x.dim(); ++d) offset += at[d] * x.strides()[d];
  return as_strided_raw(x, {}, {}, offset);
}

// Varies x for a scope and sets it back, also when f throws.
class Varied {
 public:
  explicit Varied(const Tensor& x) : x_(x), before_(x.detach().clone()) {}
  ~Varied() { write(before_); }
  void write(const Tensor& values) {
    NoGrad guard;
    Tensor target = x_.detach();
    target.copy_(values);
  }
  const Tensor& before() const { return before_; }

 private:
  const Tensor& x_;
  Tensor before_;
};

class Checker {
 public:
  Checker(const char* name, const TensorFn& f, const Tensors& inputs, const GradcheckOptions& o)
      : name_(name), f_(f), inputs_(inputs), o_(o) {
    check(o.eps > 0, name_, ": eps must be positive, got ", o.eps);
    for (size_t i : o.frozen) check(i < inputs.size(), name_, ": frozen input ", i, " of ", inputs.size());
    for (size_t i = 0; i < inputs.size(); ++i) {
      const Tensor& x = inputs[i];
      if (!x.defined() || !x.requires_grad()) continue;
      check(x.dtype() == float64, name_, ": input ", i, " is ", x.dtype(),
            "; finite differences need float64 (use x.to(float64))");
      for (int64_t d = 0; d < x.dim(); ++d) {
        check(x.size(d) <= 1 || x.strides()[d] != 0, name_, ": input ", i, " of shape ", x.shape(),
              " repeats elements along dimension ", d, "; clone it");
      }
      checked_.push_back(i);
    }
    check(!checked_.empty(), name_, ": no input requires a gradient (call requires_grad_() on those to check)");
  }

  /// Returns the largest error as a share of its tolerance.
  double run() {
    Tensors y = call_watched();
    check_repeatable(y);
    if (o_.check_undefined_grad) check_zero_upstream(y);
    if (o_.fast_mode) {
      if (!fast(y)) {
        slow(call(f_));  // names the element; the graph of y is older than the changes
        failed("the directional derivative is wrong, though no single element is beyond the tolerance");
      }
    } else {
      slow(y);
    }
    return worst_;
  }

 private:
  bool frozen(size_t i) const { return std::find(o_.frozen.begin(), o_.frozen.end(), i) != o_.frozen.end(); }
  const TensorFn& numeric_fn() const { return o_.surrogate ? o_.surrogate : f_; }

  // The first call: with gradients on, inputs compared before and after.
  Tensors call_watched() {
    std::vector<std::vector<double>> before;
    for (const Tensor& x : inputs_) before.push_back(x.defined() ? x.to_vector<double>() : Values());
    Tensors y = call(f_);
    for (size_t i = 0; i < inputs_.size(); ++i) {
      const Values after = inputs_[i].defined() ? inputs_[i].to_vector<double>() : Values();
      for (size_t k = 0; k < after.size(); ++k) {
        if (std::memcmp(&after[k], &before[i][k], sizeof(double)) == 0) continue;
        failed("the function modifies input ", i, " in place: element ",
               position(static_cast<int64_t>(k), inputs_[i].shape()), " was ", before[i][k], " and is ", after[k]);
      }
    }
    for (size_t o = 0; o < y.size(); ++o) {
      if (y[o].defined() && y[o].is_floating())
        check(y[o].dtype() == float64, name_, ": output ", o, " is ", y[o].dtype(),
              "; finite differences need float64");
    }
    return y;
  }

  Tensors call(const TensorFn& f) const {
    EnableGrad guard;
    return f(inputs_);
  }

  static bool is_checked(const Tensor& y) { return y.defined() && y.is_floating(); }

  // Gradients of y[o]·dy by every checked input; undefined where none flows.
  Tensors vjp(const Tensor& y, const Tensor& dy) const {
    Tensors x;
    for (size_t i : checked_) x.push_back(inputs_[i]);
    if (!y.requires_grad()) return Tensors(x.size());
    Tensors g;
    try {
      g = grad({y}, x, {dy}, {.retain_graph = true, .allow_unused = true});
    } catch (const OutOfMemory&) {
      throw;
    } catch (const Error& e) {
      failed("backward threw: ", e.what());
    }
    for (size_t k = 0; k < g.size(); ++k) {
      if (g[k].defined() && !(g[k].shape() == x[k].shape()))
        failed("the gradient of input ", checked_[k], " has shape ", g[k].shape(), ", the input ", x[k].shape());
    }
    return g;
  }

  static Values host(const Tensor& g, int64_t n) {
    return g.defined() ? g.to_vector<double>() : Values(static_cast<size_t>(n), 0.0);
  }

  bool same(double a, double b) const { return std::abs(a - b) <= o_.nondet_tol || a == b || (a != a && b != b); }

  // Same values and same gradients from a second run, and from a second sweep of the same graph.
  void check_repeatable(const Tensors& y) {
    const Tensors again = call(f_);
    if (again.size() != y.size()) failed("gave ", y.size(), " outputs, then ", again.size());
    for (size_t o = 0; o < y.size(); ++o) {
      if (!is_checked(y[o])) continue;
      if (!is_checked(again[o]) || !(again[o].shape() == y[o].shape()))
        failed("output ", o, " changes from one run to the next");
      compare_runs(concat("output ", o), y[o], again[o], y[o].shape());
      const Tensor dy = from_values(random_values(y[o].numel(), o), y[o]);
      const Tensors g = vjp(y[o], dy), g_sweep = vjp(y[o], dy), g_run = vjp(again[o], dy);
      for (size_t k = 0; k < g.size(); ++k) {
        const std::string what = concat("the gradient of output ", o, " by input ", checked_[k]);
        compare_runs(what, g[k], g_sweep[k], inputs_[checked_[k]].shape());
        compare_runs(what, g[k], g_run[k], inputs_[checked_[k]].shape());
      }
    }
  }

  void compare_runs(const std::string& what, const Tensor& a, const Tensor& b, const Shape& shape) const {
    const Values va = host(a, shape.numel()), vb = host(b, shape.numel());
    for (size_t k = 0; k < va.size(); ++k) {
      if (!same(va[k], vb[k]))
        failed(what, " is not deterministic: element ", position(static_cast<int64_t>(k), shape), " is ", va[k],
               ", then ", vb[k], " (nondet_tol ", o_.nondet_tol, ")");
    }
  }

  void check_zero_upstream(const Tensors& y) {
    for (size_t o = 0; o < y.size(); ++o) {
      if (!is_checked(y[o])) continue;
      const Tensors g = vjp(y[o], zeros_like(y[o].detach()));
      for (size_t k = 0; k < g.size(); ++k) {
        const Values v = host(g[k], 0);
        for (size_t e = 0; e < v.size(); ++e) {
          if (v[e] != 0)
            failed("with an upstream gradient of zeros for output ", o, " the gradient of input ", checked_[k], " is ",
                   v[e], " at element ", position(static_cast<int64_t>(e), inputs_[checked_[k]].shape()));
        }
      }
    }
  }

  // Values of all outputs of the function that is differenced, with input i as it is now.
  std::vector<Values> sample(const Tensors& like) const {
    const Tensors y = call(numeric_fn());
    if (y.size() != like.size()) failed("the surrogate gives ", y.size(), " outputs, the function ", like.size());
    std::vector<Values> out(y.size());
    for (size_t o = 0; o < y.size(); ++o) {
      if (!is_checked(like[o])) continue;
      if (!y[o].defined() || !(y[o].shape() == like[o].shape()))
        failed("output ", o, " has shape ", y[o].defined() ? y[o].shape() : Shape(), " for a varied input, ",
               like[o].shape(), " before");
      out[o] = y[o].to_vector<double>();
    }
    return out;
  }

  // --- every element ---------------------------------------------------------------------------------------------

  void slow(const Tensors& y) {
    // analytic[o][k]: [output element][input element]
    std::vector<std::vector<std::vector<Values>>> analytic(y.size());
    for (size_t o = 0; o < y.size(); ++o) {
      if (is_checked(y[o])) analytic[o] = analytic_jacobian(y[o]);
    }
    for (size_t k = 0; k < checked_.size(); ++k) {
      const size_t i = checked_[k];
      for (size_t o = 0; o < y.size(); ++o) {
        if (is_checked(y[o]) && frozen(i)) require_zero(analytic[o][k], o, i, y[o].shape());
      }
      if (!frozen(i)) compare_with_differences(y, analytic, k);
    }
  }

  std::vector<std::vector<Values>> analytic_jacobian(const Tensor& y) const {
    std::vector<std::vector<Values>> rows(checked_.size());
    const int64_t n = y.numel();
    Values unit(static_cast<size_t>(n), 0.0);
    for (int64_t e = 0; e < n; ++e) {
      unit[static_cast<size_t>(e)] = 1;
      const Tensors g = vjp(y, from_values(unit, y));
      unit[static_cast<size_t>(e)] = 0;
      for (size_t k = 0; k < g.size(); ++k) rows[k].push_back(host(g[k], inputs_[checked_[k]].numel()));
    }
    return rows;
  }

  void require_zero(const std::vector<Values>& rows, size_t o, size_t i, const Shape& out_shape) const {
    for (size_t r = 0; r < rows.size(); ++r) {
      for (size_t c = 0; c < rows[r].size(); ++c) {
        if (rows[r][c] != 0)
          failed("input ", i, " is declared frozen, but output ", o, " at element ",
                 position(static_cast<int64_t>(r), out_shape), " has the gradient ", rows[r][c], " at its element ",
                 position(static_cast<int64_t>(c), inputs_[i].shape()));
      }
    }
  }

  struct Worst {
    double excess = -1, analytic = 0, numeric = 0;
    int64_t row = 0, column = 0, wrong = 0, entries = 0;
    void see(double a, double n, double tolerance, int64_t r, int64_t c) {
      ++entries;
      const double error = std::abs(a - n);
      wrong += !(error <= tolerance);
      const double e = error == error ? error / tolerance : HUGE_VAL;  // NaN is the worst of all
      if (e > excess) *this = {e, a, n, r, c, wrong, entries};
    }
  };

  void compare_with_differences(const Tensors& y, const std::vector<std::vector<std::vector<Values>>>& analytic,
                                size_t k) {
    const size_t i = checked_[k];
    const Tensor& x = inputs_[i];
    std::vector<Worst> worst(y.size());
    {
      Varied varied(x);
      const Values at = varied.before().to_vector<double>();
      NoGrad guard;
      for (int64_t c = 0; c < x.numel(); ++c) {
        Tensor e = element(x, c);
        const double v = at[static_cast<size_t>(c)];
        e.fill_(v + o_.eps);
        const auto plus = sample(y);
        e.fill_(v - o_.eps);
        const auto minus = sample(y);
        e.fill_(v);
        for (size_t o = 0; o < y.size(); ++o) {
          for (size_t r = 0; r < plus[o].size(); ++r) {
            const double numeric = (plus[o][r] - minus[o][r]) / (2 * o_.eps);
            worst[o].see(analytic[o][k][r][static_cast<size_t>(c)], numeric, o_.atol + o_.rtol * std::abs(numeric),
                         static_cast<int64_t>(r), c);
          }
        }
      }
    }
    for (size_t o = 0; o < y.size(); ++o) {
      const Worst& w = worst[o];
      worst_ = std::max(worst_, w.excess);
      if (w.wrong)
        failed("the gradient of output ", o, " by input ", i, " is wrong in ", w.wrong, " of ", w.entries,
               " entries; the worst: output element ", position(w.row, y[o].shape()), ", input element ",
               position(w.column, x.shape()), ": analytic ", digits(w.analytic), ", numeric ", digits(w.numeric),
               y[o].requires_grad() ? "" : " (the output is cut off from every input)");
    }
  }

  // --- random directions -----------------------------------------------------------------------------------------

  bool fast(const Tensors& y) {
    // u and uᵀJ by output, before any input is varied: a graph does not outlive a change of its inputs.
    std::vector<Values> u(y.size());
    std::vector<std::vector<Values>> uj(y.size());
    for (size_t o = 0; o < y.size(); ++o) {
      if (!is_checked(y[o])) continue;
      u[o] = random_values(y[o].numel(), 2000 + o);
      const Tensors g = vjp(y[o], from_values(u[o], y[o].detach()));
      for (size_t k = 0; k < g.size(); ++k) uj[o].push_back(host(g[k], inputs_[checked_[k]].numel()));
    }
    for (size_t k = 0; k < checked_.size(); ++k) {
      if (!(frozen(checked_[k]) ? fast_frozen(uj, k) : fast_input(y, u, uj, k))) return false;
    }
    return true;
  }

  static bool fast_frozen(const std::vector<std::vector<Values>>& uj, size_t k) {
    for (const auto& g : uj) {
      if (!g.empty() && std::any_of(g[k].begin(), g[k].end(), [](double e) { return e != 0; })) return false;
    }
    return true;
  }

  bool fast_input(const Tensors& y, const std::vector<Values>& u, const std::vector<std::vector<Values>>& uj,
                  size_t k) {
    const Tensor& x = inputs_[checked_[k]];
    Values v = random_values(x.numel(), 1000 + k);
    const double norm = std::sqrt(dot(v, v));
    for (double& c : v) c /= norm > 0 ? norm : 1;
    const auto [plus, minus] = sample_along(x, v, y);
    for (size_t o = 0; o < y.size(); ++o) {
      if (!is_checked(y[o])) continue;
      double numeric = 0;
      for (size_t r = 0; r < u[o].size(); ++r) numeric += u[o][r] * (plus[o][r] - minus[o][r]) / (2 * o_.eps);
      const double share = std::abs(dot(uj[o][k], v) - numeric) / (o_.atol + o_.rtol * std::abs(numeric));
      if (!(share <= 1)) return false;
      worst_ = std::max(worst_, share);
    }
    return true;
  }

  // The values at x + eps·v and at x - eps·v.
  std::pair<std::vector<Values>, std::vector<Values>> sample_along(const Tensor& x, const Values& v,
                                                                   const Tensors& like) const {
    Varied varied(x);
    const Values at = varied.before().to_vector<double>();
    const auto shifted = [&](double eps) {
      Values to = at;
      for (size_t c = 0; c < to.size(); ++c) to[c] += eps * v[c];
      varied.write(from_values(to, x.detach()));
      return sample(like);
    };
    auto plus = shifted(o_.eps);
    return {std::move(plus), shifted(-o_.eps)};
  }

  const char* name_;
  const TensorFn& f_;
  const Tensors& inputs_;
  const GradcheckOptions& o_;
  std::vector<size_t> checked_;  // positions of the inputs to differentiate by
  double worst_ = 0;
};

template <class F>
CheckResult guarded(const char* name, const GradcheckOptions& o, F&& body) {
  try {
    CheckResult r;
    r.worst = body();
    return r;
  } catch (const Failed& e) {
    const std::string message = concat(name, ": ", e.message);
    if (o.raise_exception) fail(message);
    return {false, message, HUGE_VAL};
  }
}

// --- second order ----------------------------------------------------------------------------------------------------

Tensors floating(const Tensors& y) {
  Tensors out;
  std::copy_if(y.begin(), y.end(), std::back_inserter(out),
               [](const Tensor& t) { return t.defined() && t.is_floating(); });
  return out;
}

Tensors make_upstream(const Tensors& y, bool strided) {
  Tensors dy;
  for (size_t o = 0; o < y.size(); ++o) {
    Tensor v = from_values(random_values(y[o].numel(), 3000 + o), y[o].detach());
    if (strided) {
      Shape wide = v.shape();
      wide.push_back(2);
      v = v.unsqueeze(-1).expand(wide).clone().select(-1, 1);
    }
    dy.push_back(v.requires_grad_());
  }
  return dy;
}

// (inputs, upstream gradients) → gradients by the inputs in `by`; zeros where none flows.
TensorFn gradient_function(const TensorFn& f, size_t n_inputs, std::vector<size_t> by) {
  return [f, n_inputs, by](const Tensors& all) {
    EnableGrad guard;
    const auto split = all.begin() + static_cast<std::ptrdiff_t>(n_inputs);
    const Tensors x(all.begin(), split);
    Tensors y, dy, wanted;
    const Tensors outputs = floating(f(x));
    check(outputs.size() == static_cast<size_t>(all.end() - split), "gradgradcheck: ", all.end() - split,
          " upstream gradients for ", outputs.size(), " floating outputs");
    for (size_t o = 0; o < outputs.size(); ++o) {
      if (!outputs[o].requires_grad()) continue;
      y.push_back(outputs[o]), dy.push_back(*(split + static_cast<std::ptrdiff_t>(o)));
    }
    for (size_t i : by) wanted.push_back(x[i]);
    Tensors g(wanted.size());
    if (!y.empty()) g = grad(y, wanted, dy, {.create_graph = true, .allow_unused = true});
    for (size_t k = 0; k < g.size(); ++k) {
      if (!g[k].defined()) g[k] = zeros_like(wanted[k].detach());
    }
    return g;
  };
}

// An ordinary sweep may use fused kernels where a recorded one uses ops: both must say the same.
void compare_sweeps(const TensorFn& f, const Tensors& inputs, const Tensors& dy, const std::vector<size_t>& by,
                    const GradcheckOptions& o) {
  EnableGrad guard;
  Tensors wanted, y, dy_used;
  for (size_t i : by) wanted.push_back(inputs[i]);
  const Tensors outputs = floating(f(inputs));
  for (size_t k = 0; k < outputs.size(); ++k) {
    if (outputs[k].requires_grad()) y.push_back(outputs[k]), dy_used.push_back(dy[k]);
  }
  if (y.empty()) return;
  const Tensors plain = grad(y, wanted, dy_used, {.retain_graph = true, .allow_unused = true});
  const Tensors recorded = grad(y, wanted, dy_used, {.create_graph = true, .allow_unused = true});
  for (size_t k = 0; k < by.size(); ++k) {
    const auto n = static_cast<size_t>(wanted[k].numel());
    const Values a = plain[k].defined() ? plain[k].to_vector<double>() : Values(n, 0.0);
    const Values b = recorded[k].defined() ? recorded[k].to_vector<double>() : Values(n, 0.0);
    for (size_t e = 0; e < n; ++e) {
      if (!(std::abs(a[e] - b[e]) <= o.atol + o.rtol * std::abs(a[e])))
        failed("the gradient of input ", by[k], " at element ", position(static_cast<int64_t>(e), wanted[k].shape()),
               " is ", a[e], " in an ordinary sweep and ", b[e], " in one that is recorded");
    }
  }
}

}  // namespace

CheckResult gradcheck(const TensorFn& f, const Tensors& inputs, const GradcheckOptions& options) {
  return guarded("gradcheck", options, [&] { return Checker("gradcheck", f, inputs, options).run(); });
}

CheckResult gradgradcheck(const TensorFn& f, const Tensors& inputs, const Tensors& grad_outputs,
                          const GradcheckOptions& options) {
  return guarded("gradgradcheck", options, [&] {
    std::vector<size_t> by;
    for (size_t i = 0; i < inputs.size(); ++i) {
      const bool frozen = std::find(options.frozen.begin(), options.frozen.end(), i) != options.frozen.end();
      if (inputs[i].defined() && inputs[i].requires_grad() && !frozen) by.push_back(i);
    }
    Tensors dy = grad_outputs;
    if (dy.empty()) {
      NoGrad guard;
      dy = make_upstream(floating(f(inputs)), options.gen_non_contig_grad_outputs);
    }
    Tensors all = inputs;
    all.insert(all.end(), dy.begin(), dy.end());
    GradcheckOptions o = options;
    if (options.surrogate) o.surrogate = gradient_function(options.surrogate, inputs.size(), by);
    const TensorFn gradient = gradient_function(f, inputs.size(), by);
    Checker checker("gradgradcheck", gradient, all, o);
    try {
      if (!by.empty()) compare_sweeps(f, inputs, dy, by, o);
    } catch (const OutOfMemory&) {
      throw;
    } catch (const Error& e) {
      failed("backward threw: ", e.what());
    }
    return checker.run();
  });
}

}  // namespace weft

#include "support/walker.h"

#include <weft/tensor/parallel.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

namespace weft::test {

const char* name(Layout layout) {
  static const char* names[] = {"contiguous", "transposed", "strided", "offset", "mixed"};
  return names[static_cast<int>(layout)];
}

double tolerance(DType d) { return d == float64 ? 1e-9 : d == float32 ? 2e-5 : 2e-2; }

double relative_error(const Tensor& a, const Tensor& b, double least) {
  const auto va = a.to_vector<double>(), vb = b.to_vector<double>();
  double diff = 0, norm = 0;
  for (size_t i = 0; i < va.size(); ++i) {
    if (va[i] == vb[i]) {
      norm += std::isfinite(vb[i]) ? vb[i] * vb[i] : 0;
      continue;
    }
    diff += (va[i] - vb[i]) * (va[i] - vb[i]), norm += vb[i] * vb[i];
  }
  norm = std::max(std::sqrt(norm), least);
  const double e = norm > 0 ? std::sqrt(diff) / norm : std::sqrt(diff);
  return std::isnan(e) ? HUGE_VAL : e;
}

Device test_device() {
  const char* name = std::getenv("DEVICE");
  return name && *name ? device_from_name(name) : Device::cpu();
}

Tensor with_layout(const Tensor& x, Layout layout) {
  if (!x.defined() || x.dim() == 0 || layout == Layout::contiguous) return x;
  const Scalar garbage = x.is_floating() ? Scalar(std::nan("")) : Scalar(100);
  const auto inside = [&](Shape wide, auto&& view) {
    Tensor around = full(wide, garbage, {.dtype = x.dtype(), .device = x.device()});
    Tensor y = view(around);
    y.copy_(x);
    return y;
  };
  Shape wide = x.shape();
  if (layout == Layout::transposed) {
    Shape reversed;
    for (int64_t d = x.dim() - 1; d >= 0; --d) reversed.push_back(d);
    return x.permute(reversed).clone().permute(reversed);
  }
  if (layout == Layout::strided) {
    wide.back() = 2 * wide.back() + 1;
    return inside(wide, [&](const Tensor& t) { return t.slice(-1, 1, INT64_MAX, 2); });
  }
  for (int64_t d = 0; d < wide.size(); ++d) wide[d] += 3;
  return inside(wide, [&](Tensor t) {
    for (int64_t d = 0; d < t.dim(); ++d) t = t.narrow(d, 2, x.size(d));
    return t;
  });
}

namespace {

Layout pick(Layout layout, size_t i) {
  if (layout != Layout::mixed) return layout;
  static const Layout turn[] = {Layout::strided, Layout::contiguous, Layout::transposed, Layout::offset};
  return turn[i % 4];
}

Tensors prepare(const Tensors& inputs, DType dtype, Layout layout, Device device, bool requires_grad) {
  Tensors x;
  for (size_t i = 0; i < inputs.size(); ++i) {
    Tensor t = inputs[i];
    if (t.defined()) {
      t = t.detach().to(t.is_floating() ? dtype : t.dtype()).to(device).clone();
      t = with_layout(t, pick(layout, i)).detach();
      if (requires_grad && t.is_floating()) t.requires_grad_();
    }
    x.push_back(t);
  }
  return x;
}

// Inputs rounded to dtype, as the float64 tensors that a reference takes.
Tensors rounded(const Tensors& inputs, DType dtype) {
  Tensors x;
  for (const Tensor& t : inputs)
    x.push_back(t.defined() && t.is_floating() ? t.detach().to(dtype).to(float64).contiguous() : t);
  return x;
}

std::vector<std::vector<double>> host_copy(const Tensors& xs) {
  std::vector<std::vector<double>> out;
  for (const Tensor& x : xs) out.push_back(x.defined() ? x.to_vector<double>() : std::vector<double>());
  return out;
}

bool same_bits(const std::vector<std::vector<double>>& a, const std::vector<std::vector<double>>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].size() != b[i].size()) return false;
    if (!a[i].empty() && std::memcmp(a[i].data(), b[i].data(), a[i].size() * sizeof(double)) != 0) return false;
  }
  return true;
}

Tensor upstream(const Tensor& y, size_t o, Layout layout) {
  const Tensor dy = values(y.shape(), 500 + o).to(y.dtype()).to(y.device());
  return with_layout(dy, layout == Layout::contiguous ? layout : Layout::strided);
}

struct Run {
  Tensors y, g;
};

double norm_of(const Tensor& t) { return relative_error(t, zeros_like(t)); }

// Of several gradients. One that vanishes exactly (of a bias that softmax does not see) is rounding noise in any dtype:
// a gradient's error counts against at least a tenth of the largest gradient's norm.
double worst_error(const Tensors& got, const Tensors& want) {
  double largest = 0, worst = 0;
  for (const Tensor& w : want) largest = std::max(largest, norm_of(w));
  for (size_t i = 0; i < want.size(); ++i) {
    const double own = norm_of(want[i]), e = relative_error(got[i], want[i]);
    worst = std::max(
        worst, own > 0 || largest == 0 ? e * (own > 0 ? own / std::max(own, 0.1 * largest) : 1) : e / (0.1 * largest));
  }
  return worst;
}

// Outputs, and gradients by every floating input; an input that no gradient reaches gets zeros.
Run run(const Sample& s, DType dtype, Layout layout, Device device, bool gradients) {
  const Tensors x = prepare(s.inputs, dtype, layout, device, gradients);
  const auto before = host_copy(x);
  Run r{s.call(x), {}};
  if (gradients) {
    Tensors y, dy, wanted;
    for (size_t o = 0; o < r.y.size(); ++o) {
      if (!r.y[o].defined() || !r.y[o].requires_grad()) continue;
      y.push_back(r.y[o]), dy.push_back(upstream(r.y[o].detach(), o, layout));
    }
    for (const Tensor& t : x) {
      if (t.defined() && t.is_floating()) wanted.push_back(t);
    }
    r.g = Tensors(wanted.size());
    if (!y.empty() && !wanted.empty()) r.g = grad(y, wanted, dy, {.allow_unused = true});
    for (size_t i = 0; i < wanted.size(); ++i) {
      if (!r.g[i].defined()) r.g[i] = zeros_like(wanted[i].detach());
      check(r.g[i].dtype() == wanted[i].dtype(), "the gradient of an input of ", wanted[i].dtype(), " is ",
            r.g[i].dtype());
    }
  }
  check(same_bits(before, host_copy(x)), "the op modifies an input");
  return r;
}

class Walk {
 public:
  Walk(const Sample& s, Device device) : s_(s), device_(device) {}

  std::vector<Measured> all() {
    has_gradient_ = s_.order > 0;
    has_floats_ =
        std::any_of(s_.inputs.begin(), s_.inputs.end(), [](const Tensor& t) { return t.defined() && t.is_floating(); });
    dtypes_ = {float64};
    if (has_floats_) dtypes_.push_back(float32);
    if (has_floats_ && s_.half) dtypes_.insert(dtypes_.end(), {bfloat16, float16});
    for (DType d : dtypes_) values_and_gradients(d);
    for (DType d : {float64, float32}) {
      if (d == float32 && !has_floats_) continue;
      for (Layout l : {Layout::transposed, Layout::strided, Layout::offset, Layout::mixed}) layout(d, l);
    }
    threads();
    first_order();
    second_order();
    return std::move(out_);
  }

 private:
  // Runs body (which returns the error) and notes what it threw.
  template <class F>
  void measure(DType d, Layout l, int order, double limit, const char* what, F&& body) {
    Measured m{d, l, order, HUGE_VAL, {}};
    try {
      m.error = body();
      if (!(m.error <= limit))
        m.problem = concat(what, " is off by ", m.error, " (relative norm), the limit is ", limit);
    } catch (const std::exception& e) {
      m.problem = e.what();
    }
    if (!m.problem.empty()) m.problem = concat(s_.op, " (", s_.variant, "), ", d, ", ", name(l), ": ", m.problem);
    out_.push_back(std::move(m));
  }

  // References are written for the CPU, whatever device is the default.
  Tensors reference(DType d) const {
    DefaultDevice host(Device::cpu());
    return s_.reference(rounded(s_.inputs, d));
  }

  double limit(DType d) const { return tolerance(d) * s_.scale; }

  double compare(const Tensors& got, const Tensors& want, DType d) const {
    check(got.size() == want.size(), "gave ", got.size(), " results, the reference ", want.size());
    // A result that vanishes but for rounding (the loss of a single class) is measured against what it is made of.
    double least = 0, worst = 0;
    for (const Tensor& x : s_.inputs) {
      if (x.defined() && x.is_floating()) least = std::max(least, 1e-6 * norm_of(x));
    }
    for (size_t o = 0; o < got.size(); ++o) {
      if (!want[o].defined()) continue;
      check(got[o].defined(), "result ", o, " is undefined");
      check(got[o].shape() == want[o].shape(), "result ", o, " has shape ", got[o].shape(), ", the reference ",
            want[o].shape());
      check(got[o].is_floating() == want[o].is_floating(), "result ", o, " is ", got[o].dtype(), ", the reference ",
            want[o].dtype());
      double e = relative_error(got[o], want[o], got[o].is_floating() && std::isfinite(least) ? least : 0);
      check(got[o].is_floating() || e == 0, "integer result ", o, " differs from the reference");
      if (has_floats_) {  // a statistic of half-precision data (a log-sum-exp) may be float32
        const bool statistic = is_half(d) && got[o].dtype() == float32;
        check(!got[o].is_floating() || got[o].dtype() == d || statistic, "result ", o, " is ", got[o].dtype(),
              " for inputs of ", d);
      } else if (got[o].is_floating()) {  // the op chose the dtype: judged as what it is, measured in d's terms
        e *= tolerance(d) / tolerance(got[o].dtype());
      }
      worst = std::max(worst, e);
    }
    return worst;
  }

  void values_and_gradients(DType d) {
    measure(d, Layout::contiguous, 0, limit(d), "the value",
            [&] { return compare(run(s_, d, Layout::contiguous, device_, false).y, reference(d), d); });
    if (has_gradient_ && d != float64) {
      measure(d, Layout::contiguous, 1, limit(d), "the gradient", [&] {
        Sample exact = s_;
        exact.inputs = rounded(s_.inputs, d);
        return gradient_error(run(s_, d, Layout::contiguous, device_, true), d, exact);
      });
    }
  }

  // Against the float64 gradient at the same (rounded) inputs for the same (rounded) upstream gradient.
  double gradient_error(const Run& r, DType d, const Sample& exact) const {
    const Tensors x = prepare(exact.inputs, float64, Layout::contiguous, device_, true);
    const Tensors y = exact.call(x);
    Tensors used, dy, wanted;
    for (size_t o = 0; o < y.size(); ++o) {
      if (!y[o].defined() || !y[o].requires_grad()) continue;
      used.push_back(y[o]), dy.push_back(upstream(y[o].detach(), o, Layout::contiguous).to(d).to(float64));
    }
    for (const Tensor& t : x) {
      if (t.defined() && t.is_floating()) wanted.push_back(t);
    }
    Tensors g(wanted.size());
    if (!used.empty()) g = grad(used, wanted, dy, {.allow_unused = true});
    for (size_t i = 0; i < g.size(); ++i) {
      if (!g[i].defined()) g[i] = zeros_like(wanted[i].detach());
    }
    return worst_error(r.g, g);
  }

  void layout(DType d, Layout l) {
    measure(d, l, 0, limit(d), "the value", [&] { return compare(run(s_, d, l, device_, false).y, reference(d), d); });
    if (!has_gradient_) return;
    measure(d, l, 1, limit(d), "the gradient", [&] {
      const Run r = run(s_, d, l, device_, true), plain = run(s_, d, Layout::contiguous, device_, true);
      return worst_error(r.g, plain.g);
    });
  }

  // The same bits for any number of threads.
  void threads() {
    for (DType d : {float64, float32}) {
      if (d == float32 && !has_floats_) continue;
      measure(d, Layout::contiguous, has_gradient_ ? 1 : 0, 0, "the result", [&] {
        std::vector<std::vector<double>> first;
        for (int n : {1, 2, 5}) {
          set_num_threads(n);
          Run r;
          try {
            r = run(s_, d, Layout::contiguous, device_, has_gradient_);
          } catch (...) {
            set_num_threads(0);
            throw;
          }
          set_num_threads(0);
          Tensors all = r.y;
          all.insert(all.end(), r.g.begin(), r.g.end());
          if (n == 1) first = host_copy(all);
          check(same_bits(first, host_copy(all)), "the result changes with ", n, " threads");
        }
        return 0.0;
      });
    }
  }

  int64_t entries(const Tensors& x) const {
    int64_t in = 0, out = 0;
    for (const Tensor& t : x) in += t.defined() && t.requires_grad() ? t.numel() : 0;
    NoGrad guard;
    for (const Tensor& y : s_.call(x)) out += y.defined() && y.is_floating() ? y.numel() : 0;
    return in * out;
  }

  static constexpr int64_t kEveryElement = 4000;  // Jacobians beyond this are checked in random directions

  void first_order() {
    if (!has_gradient_) return;
    measure(float64, Layout::contiguous, 1, 1, "gradcheck", [&] {
      const Tensors x = prepare(s_.inputs, float64, Layout::contiguous, device_, true);
      return gradcheck(s_.call, x, {.fast_mode = entries(x) > kEveryElement, .frozen = s_.frozen}).worst;
    });
  }

  // Where no second derivative is declared, asking for one must give the right one or throw, never something else.
  void second_order() {
    if (!has_gradient_) return;
    measure(float64, Layout::contiguous, 2, s_.order == 2 ? 1.0 : HUGE_VAL, "gradgradcheck", [&] {
      const Tensors x = prepare(s_.inputs, float64, Layout::contiguous, device_, true);
      const GradcheckOptions o{.raise_exception = s_.order == 2,
                               .fast_mode = entries(x) > kEveryElement / 4,
                               .frozen = s_.frozen,
                               .gen_non_contig_grad_outputs = true};
      if (s_.order == 2) return gradgradcheck(s_.call, x, {}, o).worst;
      CheckResult r;
      try {
        r = gradgradcheck(s_.call, x, {}, o);
      } catch (const Error&) {
        return 0.0;
      }
      check(r.ok || r.message.find("backward threw") != std::string::npos,
            "declared as differentiable once, but a second derivative is given and wrong: ", r.message);
      return 0.0;
    });
  }

  const Sample& s_;
  const Device device_;
  bool has_gradient_ = false, has_floats_ = false;
  std::vector<DType> dtypes_;
  std::vector<Measured> out_;
};

}  // namespace

std::vector<Measured> walk(const Sample& s, Device device) {
  const DefaultDevice there(device);
  return Walk(s, device).all();
}

}  // namespace weft::test

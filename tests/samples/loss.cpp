#include "support/sample.h"

#include <cmath>

namespace weft::test {

namespace {

// Scalars have index 0.
Tensor reduced(const std::vector<double>& losses, const Shape& shape, Reduction reduction, double total) {
  if (reduction == Reduction::none) return make(shape, [&](int64_t i) { return losses[static_cast<size_t>(i)]; });
  double s = 0;
  for (const double v : losses) s += v;
  if (reduction != Reduction::sum) s = total == 0 ? 0 : s / total;
  return make({}, [&](int64_t) { return s; });
}

// --- classes -----------------------------------------------------------------------------------------------------

// By the definition, over logits (or log-probabilities) [n, c, m]; x[1] is the target [n, m], x[2] the class weights.
Tensor naive_cross_entropy(const Tensors& x, const Shape& target_shape, const CrossEntropyOptions& o, bool log_probs) {
  const int64_t nd = x[0].dim(), c = x[0].size(nd == 1 ? 0 : 1), n = nd == 1 ? 1 : x[0].size(0);
  const int64_t m = x[0].numel() == 0 ? 0 : x[0].numel() / n / c;
  const auto v = x[0].to_vector<double>();
  const auto t = x[1].to_vector<double>();
  const bool soft = x[1].is_floating();
  std::vector<double> losses;
  double total = 0;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < m; ++j) {
      const auto logit = [&](int64_t k) { return v[static_cast<size_t>((i * c + k) * m + j)]; };
      double sum = 0;
      for (int64_t k = 0; k < c; ++k) sum += std::exp(logit(k));
      const auto target = soft ? 0 : static_cast<int64_t>(t[static_cast<size_t>(i * m + j)]);
      double loss = 0;
      for (int64_t k = 0; k < c; ++k) {
        double q = soft ? t[static_cast<size_t>((i * c + k) * m + j)] : k == target ? 1 : 0;
        q = (1 - o.label_smoothing) * q + o.label_smoothing / static_cast<double>(c);
        const double w = x.size() > 2 ? at(x[2], {k}) : 1;
        if (target != o.ignore_index) loss -= w * q * (log_probs ? logit(k) : logit(k) - std::log(sum));
        if (target != o.ignore_index && (soft ? k == 0 : k == target)) total += soft ? 1 : w;
      }
      losses.push_back(loss);
    }
  }
  return reduced(losses, target_shape, o.reduction, total);
}

Tensor classes(const std::vector<int64_t>& target, const Shape& shape) { return tensor(target, shape); }

void add_classes(SampleList& l, const char* op, const char* variant, const Tensors& inputs,
                 const CrossEntropyOptions& options = {}) {
  const bool log_probs = std::string(op) == "nll_loss";
  Shape rows = inputs[0].shape();
  rows.erase(inputs[0].dim() == 1 ? 0 : 1);
  l.samples.push_back(
      {.op = op,
       .variant = variant,
       .inputs = inputs,
       .call = [=](const Tensors& x) -> Tensors {
         CrossEntropyOptions o = options;
         if (x.size() > 2) o.weight = x[2];
         return {log_probs ? nll_loss(x[0], x[1], o) : cross_entropy(x[0], x[1], o)};
       },
       .reference = [=](const Tensors& x) -> Tensors { return {naive_cross_entropy(x, rows, options, log_probs)}; },
       .frozen = inputs.size() > 2 ? std::vector<size_t>{2} : std::vector<size_t>{}});
}

void add_class_losses(SampleList& l) {
  const Tensor weight = values({5}, 12, 0.5, 2);
  for (const char* op : {"cross_entropy", "nll_loss"}) {
    add_classes(l, op, "mean", {values({3, 5}, 11), classes({0, 4, 2}, {3})});
    add_classes(l, op, "none", {values({3, 5}, 11), classes({0, 4, 2}, {3})}, {.reduction = Reduction::none});
    add_classes(l, op, "sum", {values({3, 5}, 11), classes({0, 4, 2}, {3})}, {.reduction = Reduction::sum});
    add_classes(l, op, "one row", {values({5}, 11), classes({3}, {})});
    add_classes(l, op, "one class", {values({3, 1}, 11), classes({0, 0, 0}, {3})});
    add_classes(l, op, "positions", {values({2, 5, 3}, 11), classes({0, 1, 2, 3, 4, -100}, {2, 3})});
    add_classes(l, op, "positions, none", {values({2, 5, 1, 3}, 11), classes({0, 1, 2, 3, 4, 0}, {2, 1, 3})},
                {.reduction = Reduction::none});
    add_classes(l, op, "ignored", {values({4, 5}, 11), classes({1, -1, 2, -1}, {4})}, {.ignore_index = -1});
    add_classes(l, op, "a class ignored", {values({4, 5}, 11), classes({1, 3, 2, 3}, {4})}, {.ignore_index = 3});
    add_classes(l, op, "all ignored", {values({2, 5}, 11), classes({-100, -100}, {2})});
    add_classes(l, op, "no rows", {values({0, 5}, 11), classes({}, {0})});
    add_classes(l, op, "weight", {values({3, 5}, 11), classes({0, 4, 4}, {3}), weight});
    add_classes(l, op, "weight, ignored", {values({3, 5}, 11), classes({0, -100, 4}, {3}), weight});
    add_classes(l, op, "longer rows", {values({3, 133}, 11), classes({0, 132, 70}, {3})});
  }
  const char* op = "cross_entropy";
  add_classes(l, op, "smoothed", {values({3, 5}, 11), classes({0, -100, 2}, {3})}, {.label_smoothing = 0.2});
  add_classes(l, op, "smoothed, weight", {values({3, 5}, 11), classes({0, -100, 2}, {3}), weight},
              {.label_smoothing = 0.2});
  add_classes(l, op, "probabilities", {values({3, 5}, 11), values({3, 5}, 13, 0, 1)});
  add_classes(l, op, "probabilities, smoothed, positions", {values({2, 5, 3}, 11), values({2, 5, 3}, 13, 0, 1)},
              {.label_smoothing = 0.2, .reduction = Reduction::sum});
  add_classes(l, op, "probabilities, weight, none", {values({3, 5}, 11), values({3, 5}, 13, 0, 1), weight},
              {.reduction = Reduction::none});

  l.errors.push_back({op,
                      [] {
                        cross_entropy(zeros({2, 3}), tensor(std::vector<int64_t>{0, 3}));
                      },
                      "cross_entropy: target 3 is out of range for 3 classes"});
  l.errors.push_back({op,
                      [] {
                        cross_entropy(zeros({2, 3}), tensor(std::vector<int64_t>{0, 1, 2}));
                      },
                      "cross_entropy: logits [2, 3] need a target [2], got [3]"});
  l.errors.push_back({op,
                      [] {
                        cross_entropy(zeros({2, 3}), zeros({2}, {.dtype = boolean}));
                      },
                      "cross_entropy: expected an int64 target, got bool"});
  l.errors.push_back({op,
                      [] {
                        cross_entropy(zeros({1, 3}), tensor(std::vector<int64_t>{0}), {.weight = ones({2})});
                      },
                      "cross_entropy: expected a floating weight of shape [3]"});
  l.errors.push_back({"nll_loss",
                      [] {
                        nll_loss(zeros({1, 3}), tensor(std::vector<int64_t>{-1}));
                      },
                      "nll_loss: target -1 is out of range for 3 classes"});
}

// --- with the projection -----------------------------------------------------------------------------------------

// inputs: x, weight, target, bias, class weights; the last two may be missing.
void add_projection(SampleList& l, const char* variant, const Tensors& inputs, const CrossEntropyOptions& options = {},
                    int64_t chunk = 0) {
  const Shape rows = inputs[2].shape();
  const auto some = [](const Tensors& x, size_t i) { return x.size() > i ? x[i] : Tensor(); };
  l.samples.push_back({.op = "linear_cross_entropy",
                       .variant = variant,
                       .inputs = inputs,
                       .call = [=](const Tensors& x) -> Tensors {
                         CrossEntropyOptions o = options;
                         o.weight = some(x, 4);
                         return {linear_cross_entropy(x[0], x[1], x[2], o, some(x, 3), chunk)};
                       },
                       .reference = [=](const Tensors& x) -> Tensors {
                         const int64_t r = rows.numel(), c = x[1].size(0), d = x[1].size(1);
                         const auto v = x[0].to_vector<double>(), w = x[1].to_vector<double>();
                         const Tensor logits = make({r, c}, [&](int64_t i) {
                           double sum = some(x, 3).defined() ? at(x[3], {i % c}) : 0;
                           for (int64_t k = 0; k < d; ++k)
                             sum += v[static_cast<size_t>(i / c * d + k)] * w[static_cast<size_t>(i % c * d + k)];
                           return sum;
                         });
                         Tensors y{logits, x[2].reshape({r})};
                         if (x.size() > 4) y.push_back(x[4]);
                         return {naive_cross_entropy(y, rows, options, false)};
                       },
                       .frozen = inputs.size() > 4 ? std::vector<size_t>{4} : std::vector<size_t>{}});
}

void add_projected_losses(SampleList& l) {
  const Tensor x = values({3, 4}, 31), weight = values({5, 4}, 32), bias = values({5}, 33), t = classes({0, 4, 2}, {3});
  add_projection(l, "mean", {x, weight, t});
  add_projection(l, "sum", {x, weight, t}, {.reduction = Reduction::sum});
  add_projection(l, "none", {x, weight, t}, {.reduction = Reduction::none});
  add_projection(l, "bias", {x, weight, t, bias});
  add_projection(l, "bias, none", {x, weight, t, bias}, {.reduction = Reduction::none});
  add_projection(l, "chunks", {x, weight, t, bias}, {}, 2);
  add_projection(l, "chunks, none", {x, weight, t, bias}, {.reduction = Reduction::none}, 1);
  add_projection(l, "one row", {values({4}, 31), weight, classes({3}, {})});
  add_projection(l, "positions", {values({2, 3, 4}, 31), weight, classes({0, 1, 2, 3, -100, 4}, {2, 3}), bias},
                 {.label_smoothing = 0.1});
  add_projection(l, "ignored", {x, weight, classes({1, -1, 2}, {3})}, {.ignore_index = -1});
  add_projection(l, "all ignored", {x, weight, classes({-100, -100, -100}, {3})});
  add_projection(l, "no rows", {values({0, 4}, 31), weight, classes({}, {0}), bias});
  add_projection(l, "class weights", {x, weight, t, bias, values({5}, 34, 0.5, 2)}, {.label_smoothing = 0.2});
  add_projection(l, "longer rows",
                 {values({70, 3}, 31), values({133, 3}, 32),
                  make({70}, [](int64_t i) { return static_cast<double>(i * 7 % 133); }).to(int64)});

  const char* op = "linear_cross_entropy";
  const auto wrong = [&](const std::function<void()>& call, const std::string& message) {
    l.errors.push_back({op, call, std::string(op) + ": " + message});
  };
  const Tensor two = zeros({2, 3}), to_four = zeros({4, 3}), good = classes({0, 3}, {2});
  wrong([=] { linear_cross_entropy(two, zeros({3}), good); }, "expected a weight [c, d], got [3]");
  wrong([=] { linear_cross_entropy(two, zeros({4, 2}), good); }, "input [2, 3] does not fit weight [4, 2]");
  wrong([=] { linear_cross_entropy(two, to_four, good, {}, zeros({3})); }, "bias [3] does not fit weight [4, 3]");
  wrong([=] { linear_cross_entropy(two, to_four, classes({0}, {1})); }, "input [2, 3] needs a target [2], got [1]");
  wrong([=] { linear_cross_entropy(two, to_four, classes({0, 4}, {2})); }, "target 4 is out of range for 4 classes");
  wrong([=] { linear_cross_entropy(two, to_four, two); }, "expected an int64 target, got float32");
  wrong([=] { linear_cross_entropy(two, to_four, good, {}, {}, -1); },
        "a chunk must have rows, or 0 to choose, got -1");
  wrong([=] { linear_cross_entropy(two.to(bfloat16), to_four, good); },
        "dtypes differ: input bfloat16, weight float32, bias float32");
}

// --- pairs -------------------------------------------------------------------------------------------------------

using Pair = std::function<double(double, double)>;

void add_pair(SampleList& l, const char* op, const Tensors& inputs,
              const std::function<Tensor(const Tensors&, Reduction)>& call, const Pair& f) {
  for (const auto& [reduction, name] :
       {std::pair{Reduction::none, "none"}, {Reduction::mean, "mean"}, {Reduction::sum, "sum"}}) {
    l.samples.push_back({.op = op,
                         .variant = name,
                         .inputs = inputs,
                         .call = [=, r = reduction](const Tensors& x) -> Tensors { return {call(x, r)}; },
                         .reference = [=, r = reduction](const Tensors& x) -> Tensors {
                           Tensor y = map2(x[0], x[1], f);
                           if (x.size() > 2) y = map2(y, x[2], [](double a, double b) { return a * b; });
                           return {reduced(y.to_vector<double>(), y.shape(), r, static_cast<double>(y.numel()))};
                         }});
  }
  l.errors.push_back({op,
                      [=] {
                        call({zeros({3, 1}), zeros({3})}, Reduction::mean);
                      },
                      std::string(op) + ": input [3, 1] and target [3] differ in shape"});
}

double softplus_of(double v) { return std::max(v, 0.0) + std::log1p(std::exp(-std::abs(v))); }

void add_pair_losses(SampleList& l) {
  const Tensors any{values({3, 5}, 21), values({3, 5}, 22)};
  const Tensors probabilities{values({3, 5}, 23, 0.1, 0.9), values({3, 5}, 24, 0, 1)};
  const Tensor weight = values({5}, 25, 0.5, 2);
  using R = Reduction;
  add_pair(
      l, "mse_loss", any, [](const Tensors& x, R r) { return mse_loss(x[0], x[1], r); },
      [](double a, double b) { return (a - b) * (a - b); });
  add_pair(
      l, "l1_loss", any, [](const Tensors& x, R r) { return l1_loss(x[0], x[1], r); },
      [](double a, double b) { return std::abs(a - b); });
  add_pair(
      l, "smooth_l1_loss", any, [](const Tensors& x, R r) { return smooth_l1_loss(x[0], x[1], 0.7, r); },
      [](double a, double b) {
        const double d = std::abs(a - b);
        return d < 0.7 ? d * d / 1.4 : d - 0.35;
      });
  add_pair(
      l, "huber_loss", any, [](const Tensors& x, R r) { return huber_loss(x[0], x[1], 0.7, r); },
      [](double a, double b) {
        const double d = std::abs(a - b);
        return d < 0.7 ? d * d / 2 : 0.7 * (d - 0.35);
      });
  const Pair bernoulli = [](double p, double t) { return -(t * std::log(p) + (1 - t) * std::log(1 - p)); };
  const auto bce = [](const Tensors& x, R r) {
    return binary_cross_entropy(x[0], x[1], x.size() > 2 ? x[2] : Tensor(), r);
  };
  add_pair(l, "binary_cross_entropy", probabilities, bce, bernoulli);
  add_pair(l, "binary_cross_entropy", {probabilities[0], probabilities[1], weight}, bce, bernoulli);
  const Tensors logits{any[0], probabilities[1]};
  const auto with_logits = [](const Tensors& x, R r) {
    return binary_cross_entropy_with_logits(x[0], x[1], x.size() > 2 ? x[2] : Tensor(), {}, r);
  };
  const Pair from_logits = [](double v, double t) { return t * softplus_of(-v) + (1 - t) * softplus_of(v); };
  add_pair(l, "binary_cross_entropy_with_logits", logits, with_logits, from_logits);
  add_pair(l, "binary_cross_entropy_with_logits", {logits[0], logits[1], weight}, with_logits, from_logits);
  l.samples.push_back(
      {.op = "binary_cross_entropy_with_logits",
       .variant = "pos_weight",
       .inputs = {logits[0], logits[1], weight},
       .call = [](const Tensors& x) -> Tensors {
         return {binary_cross_entropy_with_logits(x[0], x[1], {}, x[2], Reduction::none)};
       },
       .reference = [](const Tensors& x) -> Tensors {
         const Tensor hit = map2(map2(x[0], x[1], [](double v, double t) { return t * softplus_of(-v); }), x[2],
                                 [](double a, double w) { return a * w; });
         return {map2(hit, map2(x[0], x[1], [](double v, double t) { return (1 - t) * softplus_of(v); }),
                      [](double a, double b) { return a + b; })};
       }});
  const Tensors distributions{any[0], values({3, 5}, 26, 0.1, 1)};
  add_pair(
      l, "kl_div", distributions, [](const Tensors& x, R r) { return kl_div(x[0], x[1], false, r); },
      [](double a, double t) { return t * (std::log(t) - a); });
  add_pair(
      l, "kl_div", any, [](const Tensors& x, R r) { return kl_div(x[0], x[1], true, r); },
      [](double a, double t) { return std::exp(t) * (t - a); });
  l.samples.push_back(
      {.op = "kl_div",
       .variant = "batch mean",
       .inputs = distributions,
       .call = [](const Tensors& x) -> Tensors { return {kl_div(x[0], x[1], false, Reduction::batch_mean)}; },
       .reference = [](const Tensors& x) -> Tensors {
         const Tensor y = map2(x[0], x[1], [](double a, double t) { return t * (std::log(t) - a); });
         return {reduced(y.to_vector<double>(), {}, Reduction::batch_mean, 3)};
       }});
}

}  // namespace

void loss_samples(SampleList& l) {
  add_class_losses(l);
  add_projected_losses(l);
  add_pair_losses(l);
}

}  // namespace weft::test

#include <weft/autograd/autograd.h>
#include <weft/nn/optim/optimizer.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/optim.h>
#ifdef WEFT_CUDA
#include <weft/cuda/graph.h>
#endif

#include <map>
#include <set>
#include <utility>

namespace weft {

Optimizer::Optimizer(const char* name, std::vector<ParamGroup> groups, double lr, double weight_decay,
                     std::vector<std::string> kinds)
    : name_(name), kinds_(std::move(kinds)) {
  std::set<TensorImpl*> seen;
  for (ParamGroup& g : groups) {
    Group settings{{}, g.lr.value_or(lr), g.weight_decay.value_or(weight_decay)};
    check(settings.lr >= 0 && settings.weight_decay >= 0, name, ": lr and weight_decay must not be negative, got ",
          settings.lr, " and ", settings.weight_decay);
    std::vector<State> states;
    for (Tensor& p : g.params) {
      check(p.defined() && p.requires_grad() && p.is_leaf(), name,
            ": can only optimise leaves that require a gradient");
      check(seen.insert(&p.impl()).second, name, ": a parameter of shape ", p.shape(), " is given twice");
      states.push_back({p, {}, 0});
    }
    groups_.push_back(std::move(states));
    settings_.push_back(std::move(settings));
  }
  check(!seen.empty(), name, ": got no parameters");
}

void Optimizer::run(const ClipByNorm& clip) {
  NoGrad guard;
  bool first = true;
  for (size_t g = 0; g < groups_.size(); ++g) {
    // Parameters that took part in equally many steps are updated together: usually all of them.
    std::map<int64_t, std::vector<State*>> by_step;
    for (State& s : groups_[g]) {
      if (!s.param.grad().defined()) continue;
      if (s.tensors.empty() && !kinds_.empty()) {
        refuse_recording();
        const DType dtype = s.param.dtype() == float64 ? float64 : float32;
        for (size_t k = 0; k < kinds_.size(); ++k)
          s.tensors.push_back(zeros(s.param.shape(), {.dtype = dtype, .device = s.param.device()}));
      }
      by_step[++s.steps].push_back(&s);
    }
    for (const auto& [step, states] : by_step) update_together(g, states, clip, std::exchange(first, false));
  }
  ++steps_;
}

void Optimizer::refuse_recording() const {
#ifdef WEFT_CUDA
  check(!cuda::Graph::recording(), name_,
        ": the state of a parameter would start anew in every replay; let a step run before the captured one (warmup)");
#endif
}

void Optimizer::update_together(size_t g, const std::vector<State*>& states, const ClipByNorm& clip, bool counts) {
  Tensors params, grads;
  std::vector<Tensors> state(kinds_.size());
  for (State* s : states) {
    params.push_back(s->param.detach());
    grads.push_back(s->param.grad());
    for (size_t k = 0; k < kinds_.size(); ++k) state[k].push_back(s->tensors[k]);
  }
  auto now = [this, g, states, clip] {
    return Step{settings_[g].lr * lr_scale_, settings_[g].weight_decay, states[0]->steps, clip};
  };
  update(params, grads, state, now(), [this, now, states, counts] {  // a replay does to the host what step() did
    for (State* s : states) {
      ++s->steps;
      s->param.impl().storage->bump_version();
    }
    if (counts) ++steps_;
    return now();
  });
}

void Optimizer::zero_grad() {
  for (auto& group : groups_) {
    for (State& s : group) s.param.set_grad({});
  }
}

NamedTensors Optimizer::state_dict() const {
  NamedTensors out;
  out.emplace_back("step", scalar(steps_, {.dtype = int64, .device = Device::cpu()}));
  size_t i = 0;
  for (const auto& group : groups_) {
    for (const State& s : group) {
      out.emplace_back(concat("steps.", i), scalar(s.steps, {.dtype = int64, .device = Device::cpu()}));
      for (size_t k = 0; k < s.tensors.size(); ++k) out.emplace_back(concat(kinds_[k], ".", i), s.tensors[k]);
      ++i;
    }
  }
  return out;
}

void Optimizer::load_state_dict(const NamedTensors& state) {
  std::map<std::string, Tensor> given(state.begin(), state.end());
  auto take = [&](const std::string& n) {
    auto it = given.find(n);
    check(it != given.end(), name_, ": load_state_dict: ", n, " is missing");
    Tensor t = it->second;
    given.erase(it);
    return t;
  };
  const int64_t steps = take("step").item<int64_t>();
  struct Loaded {
    int64_t steps;
    Tensors tensors;
  };
  std::vector<Loaded> loaded;
  size_t i = 0;
  for (const auto& group : groups_) {
    for (const State& s : group) {
      Loaded& l = loaded.emplace_back();
      l.steps = take(concat("steps.", i)).item<int64_t>();
      for (size_t k = 0; k < kinds_.size() && l.steps > 0; ++k) {
        l.tensors.push_back(take(concat(kinds_[k], ".", i)));
        check(l.tensors[k].shape() == s.param.shape(), name_, ": load_state_dict: ", kinds_[k], ".", i, " has shape ",
              l.tensors[k].shape(), ", its parameter ", s.param.shape());
      }
      ++i;
    }
  }
  check(given.empty(), name_, ": load_state_dict: unexpected ", given.empty() ? "" : given.begin()->first);

  NoGrad guard;
  i = 0;
  for (auto& group : groups_) {
    for (State& s : group) {
      const Loaded& l = loaded[i++];
      s.steps = l.steps;
      if (l.tensors.size() != s.tensors.size()) {
        s.tensors.clear();
        const DType dtype = s.param.dtype() == float64 ? float64 : float32;
        for (const Tensor& t : l.tensors) s.tensors.push_back(empty(t.shape(), dtype, s.param.device()));
      }
      for (size_t k = 0; k < l.tensors.size(); ++k) s.tensors[k].copy_(l.tensors[k]);
    }
  }
  steps_ = steps;
}

SGD::SGD(std::vector<ParamGroup> groups, SGDOptions o)
    : Optimizer("SGD", std::move(groups), o.lr, o.weight_decay,
                o.momentum != 0 ? std::vector<std::string>{"momentum_buffer"} : std::vector<std::string>{}),
      options_(o) {
  check(o.momentum >= 0, "SGD: momentum must not be negative, got ", o.momentum);
  check(!o.nesterov || (o.momentum > 0 && o.dampening == 0), "SGD: nesterov needs a momentum and no dampening");
}

void SGD::update(const Tensors& params, const Tensors& grads, const std::vector<Tensors>& state, const Step& step,
                 const std::function<Step()>& next) {
  auto args = [o = options_](const Step& s) {
    return SgdArgs{.lr = s.lr,
                   .momentum = o.momentum,
                   .dampening = o.dampening,
                   .weight_decay = s.weight_decay,
                   .nesterov = o.nesterov,
                   .first = s.number == 1,
                   .clip = s.clip};
  };
  SgdArgs now = args(step);
  now.next = [args, next] { return args(next()); };
  sgd_(params, grads, state.empty() ? Tensors() : state[0], now);
}

Adam::Adam(const char* name, std::vector<ParamGroup> groups, AdamOptions o, bool decoupled)
    : Optimizer(name, std::move(groups), o.lr, o.weight_decay, {"exp_avg", "exp_avg_sq"}),
      options_(o),
      decoupled_(decoupled) {
  check(o.beta1 >= 0 && o.beta1 < 1 && o.beta2 >= 0 && o.beta2 < 1, name, ": betas must be in [0, 1), got ", o.beta1,
        " and ", o.beta2);
  check(o.eps >= 0, name, ": eps must not be negative, got ", o.eps);
}

void Adam::update(const Tensors& params, const Tensors& grads, const std::vector<Tensors>& state, const Step& step,
                  const std::function<Step()>& next) {
  auto args = [o = options_, decoupled = decoupled_](const Step& s) {
    return AdamArgs{.lr = s.lr,
                    .beta1 = o.beta1,
                    .beta2 = o.beta2,
                    .eps = o.eps,
                    .weight_decay = s.weight_decay,
                    .decoupled = decoupled,
                    .step = s.number,
                    .clip = s.clip};
  };
  AdamArgs now = args(step);
  now.next = [args, next] { return args(next()); };
  adam_(params, grads, state[0], state[1], now);
}

namespace {
Tensors gradients(const Tensors& params) {
  Tensors grads;
  for (const Tensor& p : params) {
    Tensor g = p.grad();
    if (!g.defined()) continue;
    if (!g.is_contiguous()) p.set_grad(g = g.contiguous());
    grads.push_back(g.detach());
  }
  return grads;
}
}  // namespace

Tensor Optimizer::step_clipped(double max_norm) {
  check(max_norm >= 0, name_, ": step_clipped: max_norm must not be negative, got ", max_norm);
  NoGrad guard;
  Tensors params;
  for (const auto& group : groups_) {
    for (const State& s : group) params.push_back(s.param);
  }
  const Tensor norm = sqrt(sum_squares(gradients(params)));
  run({norm, max_norm});
  return norm;
}

Tensor clip_grad_norm_(const Tensors& params, double max_norm) {
  check(max_norm >= 0, "clip_grad_norm_: max_norm must not be negative, got ", max_norm);
  NoGrad guard;
  const Tensors grads = gradients(params);
  const Tensor norm = sqrt(sum_squares(grads));
  clip_(grads, norm, max_norm);
  return norm;
}

void clip_grad_value_(const Tensors& params, double limit) { clip_value_(gradients(params), limit); }

}  // namespace weft

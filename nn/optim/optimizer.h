// Optimisers: SGD, Adam and AdamW over parameter groups, with PyTorch's arguments, defaults and arithmetic.
#pragma once

#include <weft/nn/module.h>
#include <weft/ops/optim.h>

#include <optional>

namespace weft {

/// Parameters that share settings. What is not given is the optimiser's own.
struct ParamGroup {
  Tensors params;
  std::optional<double> lr = {};
  std::optional<double> weight_decay = {};
};

/// Base: steps over groups, remembers state per parameter, saves and loads it.
class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  /// Moves every parameter that has a gradient; gradients stay. Inside a captured step (cuda/graph.h) each replay
  /// counts as a step, with the lr_scale of its time.
  void step() { run({}); }
  /// step() with the gradients taken as clip_grad_norm_ would leave them, without writing to them; returns their joint
  /// norm.
  Tensor step_clipped(double max_norm);
  /// Drops all gradients.
  void zero_grad();

  /// One factor on every group's learning rate: what a schedule sets before each step. Starts at 1.
  void set_lr_scale(double scale) { lr_scale_ = scale; }
  double lr_scale() const { return lr_scale_; }
  int64_t steps() const { return steps_; }

  /// "step", and "KIND.i" for each state tensor of parameter i (counted over all groups): enough to go on with the same
  /// bits.
  NamedTensors state_dict() const;
  /// Throws, and changes nothing, unless names and shapes are those of this optimiser's parameters. State that is there
  /// is written over in place, so a captured step goes on with what was loaded.
  void load_state_dict(const NamedTensors& state);

 protected:
  struct Group {
    Tensors params;
    double lr, weight_decay;
  };
  /// state_kinds: names of the tensors kept per parameter.
  Optimizer(const char* name, std::vector<ParamGroup> groups, double lr, double weight_decay,
            std::vector<std::string> state_kinds);
  /// What changes from step to step.
  struct Step {
    double lr, weight_decay;
    int64_t number;  ///< from 1
    ClipByNorm clip = {};
  };
  /// Updates parameters (those of a group that have gradients); state[k][i] belongs to params[i]. next: asked before
  /// each replay of a captured call.
  virtual void update(const Tensors& params, const Tensors& grads, const std::vector<Tensors>& state, const Step& step,
                      const std::function<Step()>& next) = 0;

 private:
  struct State {
    Tensor param;
    Tensors tensors;  // one per kind; empty before the parameter's first step
    int64_t steps = 0;
  };
  void refuse_recording() const;
  /// Updates states of group g that have taken part in equally many steps. counts: this is the first of a step's calls.
  void update_together(size_t g, const std::vector<State*>& states, const ClipByNorm& clip, bool counts);
  void run(const ClipByNorm& clip);

  const char* name_;
  std::vector<std::vector<State>> groups_;
  std::vector<Group> settings_;
  std::vector<std::string> kinds_;
  double lr_scale_ = 1;
  int64_t steps_ = 0;
};

struct SGDOptions {
  double lr = 1e-3, momentum = 0, dampening = 0, weight_decay = 0;
  bool nesterov = false;
};
/// g = gradient + weight_decay·p;  v = momentum·v + (1 - dampening)·g, g itself at the first step;  p -= lr·v, or with
/// nesterov lr·(g + momentum·v). Without momentum p -= lr·g.
class SGD : public Optimizer {
 public:
  explicit SGD(Tensors params, SGDOptions options = {}) : SGD(std::vector<ParamGroup>{{std::move(params)}}, options) {}
  explicit SGD(std::vector<ParamGroup> groups, SGDOptions options = {});

 protected:
  void update(const Tensors& params, const Tensors& grads, const std::vector<Tensors>& state, const Step& step,
              const std::function<Step()>& next) override;
  SGDOptions options_;
};

struct AdamOptions {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
};
/// g = gradient + weight_decay·p;  m = beta1·m + (1 - beta1)·g;  v = beta2·v + (1 - beta2)·g²;  at step t
/// p -= lr·m / (1 - beta1ᵗ) / (√(v / (1 - beta2ᵗ)) + eps). Source: arXiv:1412.6980.
class Adam : public Optimizer {
 public:
  explicit Adam(Tensors params, AdamOptions options = {})
      : Adam(std::vector<ParamGroup>{{std::move(params)}}, options) {}
  explicit Adam(std::vector<ParamGroup> groups, AdamOptions options = {})
      : Adam("Adam", std::move(groups), options, false) {}

 protected:
  Adam(const char* name, std::vector<ParamGroup> groups, AdamOptions options, bool decoupled);
  void update(const Tensors& params, const Tensors& grads, const std::vector<Tensors>& state, const Step& step,
              const std::function<Step()>& next) override;
  AdamOptions options_;
  bool decoupled_;
};

struct AdamWOptions {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 1e-2;
};
/// Adam with decoupled weight decay: g is the gradient alone, and p is first scaled by 1 - lr·weight_decay
/// (arXiv:1711.05101).
class AdamW : public Adam {
 public:
  explicit AdamW(Tensors params, AdamWOptions options = {})
      : AdamW(std::vector<ParamGroup>{{std::move(params)}}, options) {}
  explicit AdamW(std::vector<ParamGroup> groups, AdamWOptions o = {})
      : Adam("AdamW", std::move(groups), {o.lr, o.beta1, o.beta2, o.eps, o.weight_decay}, true) {}
};

/// Scales all gradients so that their joint 2-norm is at most max_norm; returns the norm before. Parameters without a
/// gradient are passed over.
Tensor clip_grad_norm_(const Tensors& params, double max_norm);
/// Limits every element of every gradient to [-limit, limit].
void clip_grad_value_(const Tensors& params, double limit);

}  // namespace weft

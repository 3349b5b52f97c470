// Activations and other layers without parameters, as modules for Sequential.
#pragma once

#include <weft/nn/module.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/random.h>

namespace weft {

class Identity : public Module {
 public:
  Tensor forward(const Tensor& x) const override { return x; }
  std::string name() const override { return "Identity"; }
};

class ReLU : public Module {
 public:
  Tensor forward(const Tensor& x) const override { return relu(x); }
  std::string name() const override { return "ReLU"; }
};

class GELU : public Module {
 public:
  /// approximate_tanh: the form that GPT-2 uses.
  explicit GELU(bool approximate_tanh = false) : approximate_tanh_(approximate_tanh) {}
  Tensor forward(const Tensor& x) const override { return approximate_tanh_ ? gelu_tanh(x) : gelu(x); }
  std::string name() const override { return "GELU"; }
  std::string extra_repr() const override { return approximate_tanh_ ? "approximate='tanh'" : "approximate='none'"; }

 private:
  bool approximate_tanh_;
};

class SiLU : public Module {
 public:
  Tensor forward(const Tensor& x) const override { return silu(x); }
  std::string name() const override { return "SiLU"; }
};

class Sigmoid : public Module {
 public:
  Tensor forward(const Tensor& x) const override { return sigmoid(x); }
  std::string name() const override { return "Sigmoid"; }
};

class Tanh : public Module {
 public:
  Tensor forward(const Tensor& x) const override { return tanh(x); }
  std::string name() const override { return "Tanh"; }
};

/// Zeroes elements with probability p in training and scales the rest by 1/(1-p); draws from the thread's default
/// generator.
class Dropout : public Module {
 public:
  explicit Dropout(double p = 0.5) : p_(p) { check(p >= 0 && p <= 1, "Dropout: p must be in [0, 1], got ", p); }
  Tensor forward(const Tensor& x) const override { return dropout(x, p_, is_training()); }
  std::string name() const override { return "Dropout"; }
  std::string extra_repr() const override { return concat("p=", p_); }

 private:
  double p_;
};

}  // namespace weft

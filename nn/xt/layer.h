// One entry of AttentionLayers, as its state dict names it: 0 the norms, 1 the sublayer, 2 the residual. Not for users.
#pragma once

#include <weft/nn/xt/attention_layers.h>

namespace weft::xt {

/// A list of modules with gaps.
class Numbered : public Module {
 public:
  explicit Numbered(const char* name = "ModuleList") : name_(name) {}
  void add(const std::string& as, std::shared_ptr<Module> module) {
    if (module) register_module(as, std::move(module));
  }
  std::string name() const override { return name_; }

 private:
  const char* name_;
};

class AttentionLayers::Layer : public Module {
 public:
  struct Norms {
    std::shared_ptr<Norm> before, after, after_residual;  // any may be null
  };
  Layer(Norms n, std::shared_ptr<Sublayer> s, std::shared_ptr<ResidualFn> r)
      : norms(std::move(n)), sublayer(std::move(s)), residual(std::move(r)) {
    const auto list = std::make_shared<Numbered>();
    list->add("0", norms.before), list->add("1", norms.after), list->add("2", norms.after_residual);
    register_module("0", list), register_module("1", sublayer), register_module("2", residual);
  }
  std::string name() const override { return "ModuleList"; }

  Norms norms;
  std::shared_ptr<Sublayer> sublayer;
  std::shared_ptr<ResidualFn> residual;
};

}  // namespace weft::xt

// Containers: modules in a row (Sequential) or in a list (ModuleList), numbered from 0.
#pragma once

#include <weft/nn/module.h>

namespace weft {

/// Modules in a list; what is done with them is up to their owner.
class ModuleList : public Module {
 public:
  ModuleList() = default;
  template <class M>
  std::shared_ptr<M> push_back(std::shared_ptr<M> module) {
    modules_.push_back(module);
    return register_module(std::to_string(modules_.size() - 1), std::move(module));
  }
  template <class M, class... Args>
  std::shared_ptr<M> emplace_back(Args&&... args) {
    return push_back(std::make_shared<M>(std::forward<Args>(args)...));
  }
  int64_t size() const { return static_cast<int64_t>(modules_.size()); }
  /// Module i; throws where there is none.
  Module& operator[](int64_t i) const {
    check(i >= 0 && i < size(), name(), ": there is no module ", i, " of ", size());
    return *modules_[static_cast<size_t>(i)];
  }
  /// Module i as an M; throws where it is something else.
  template <class M>
  M& at(int64_t i) const {
    M* m = dynamic_cast<M*>(&(*this)[i]);
    check(m != nullptr, name(), ": module ", i, " is a ", (*this)[i].name());
    return *m;
  }
  using Module::operator();
  std::string name() const override { return "ModuleList"; }

 private:
  std::vector<std::shared_ptr<Module>> modules_;
};

/// Each module's output is the next one's input.
class Sequential : public ModuleList {
 public:
  Sequential() = default;
  /// Sequential(std::make_shared<Linear>(2, 3), std::make_shared<ReLU>(), ...)
  template <class... M>
  explicit Sequential(std::shared_ptr<M>... modules) {
    (push_back(std::move(modules)), ...);
  }
  Tensor forward(const Tensor& x) const override {
    Tensor y = x;
    for (int64_t i = 0; i < size(); ++i) y = (*this)[i].forward(y);
    return y;
  }
  std::string name() const override { return "Sequential"; }
};

}  // namespace weft

// Module: a part of a model that owns parameters, buffers and other modules, under PyTorch's names.
#pragma once

#include <weft/tensor/tensor.h>

#include <functional>
#include <string>
#include <utility>

namespace weft {

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

/// Base of every layer and model. A module registers its tensors and children in its constructor; their order is that
/// of state_dict. It is neither copied nor moved (children are found by address): hold it where it was made, or by
/// shared_ptr. A const module's forward may run on many threads at once.
class Module {
 public:
  Module() = default;
  virtual ~Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  /// The computation, for modules of one tensor; others have an operator() of their own and this throws.
  virtual Tensor forward(const Tensor& x) const;
  Tensor operator()(const Tensor& x) const { return forward(x); }

  /// Every parameter once (a tied one under its first name), dotted names, in the order of registration.
  NamedTensors named_parameters() const;
  Tensors parameters() const;
  NamedTensors named_buffers() const;
  int64_t num_parameters() const;

  /// Parameters and persistent buffers (sharing memory with the module); tied ones under each of their names.
  NamedTensors state_dict() const;
  /// Copies values in, converted to each tensor's dtype and device. strict: the names must be those of state_dict().
  /// Throws one error that lists every missing, unexpected and misshapen entry, and then has changed nothing.
  void load_state_dict(const NamedTensors& state, bool strict = true);

  /// Training mode (dropout draws, and so on) here and in all children. Modules start in it.
  void train(bool on = true);
  void eval() { train(false); }
  bool is_training() const { return training_; }

  /// Moves or converts every parameter and floating buffer in place: handles to them stay valid, gradients are dropped.
  void to(Device device);
  void to(DType dtype);
  void requires_grad_(bool on = true);
  void zero_grad();

  /// Calls f on this module and every one below it, with dotted names ("" for this one).
  void apply(const std::function<void(const std::string& name, Module& module)>& f);
  void apply(const std::function<void(const std::string& name, const Module& module)>& f) const;

  /// The tree as PyTorch prints it.
  std::string to_string() const;
  virtual std::string name() const = 0;                  ///< class name
  virtual std::string extra_repr() const { return ""; }  ///< what stands in its brackets

 protected:
  /// Returns t, made a parameter: it requires a gradient. An undefined t (no bias) is skipped.
  Tensor register_parameter(const std::string& name, Tensor t);
  /// A tensor that belongs to the model but is not trained; in state_dict where persistent.
  Tensor register_buffer(const std::string& name, Tensor t, bool persistent = true);
  /// A child that is a member of this module.
  void register_module(const std::string& name, Module& child);
  /// A child that this module shares the ownership of.
  template <class M>
  std::shared_ptr<M> register_module(const std::string& name, std::shared_ptr<M> child) {
    add_child(name, child.get(), child);
    return child;
  }

 private:
  struct Entry {
    std::string name;
    Tensor tensor;
    bool is_parameter, persistent;
  };
  struct Child {
    std::string name;
    Module* module;
    std::shared_ptr<Module> owner;
  };
  void add_child(const std::string& name, Module* child, std::shared_ptr<Module> owner);
  void check_name(const std::string& name) const;
  template <class M, class F>
  static void walk(const std::string& prefix, M& module, const F& f);
  template <class F>
  void visit_tensors(const std::string& prefix, F&& f) const;
  void print(std::string& s, int indent) const;

  std::vector<Entry> tensors_;
  std::vector<Child> children_;
  bool training_ = true;
};

}  // namespace weft

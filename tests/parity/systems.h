// Which C++ class stands for which of an original's names, and how it is built from JSON and called.
#pragma once

#include <weft/nn/module.h>

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

namespace weft::parity {

using Json = nlohmann::ordered_json;
using TensorMap = std::map<std::string, Tensor>;

/// The arguments of one call, found by name. Whoever calls takes what the original's signature has; finish() throws
/// for an argument that nobody took, unless it is None, which is as good as not given.
class Arguments {
 public:
  /// call: {"args": [...], "kwargs": {...}, "method": "..."}; a string names one of inputs, {"py": s} is the string s.
  /// draws: random numbers to use in place of the module's own.
  Arguments(const Json& call, const TensorMap& inputs, TensorMap draws);

  const std::string& method() const { return method_; }
  /// Gives the positional arguments their names, in order.
  void bind(std::initializer_list<const char*> names);
  Tensor tensor(const char* name);
  Tensor tensor_or_none(const char* name);
  /// A list of inputs, empty where it is not given; null (or a 1 that stands for no scale) in it is an undefined
  /// tensor.
  Tensors tensors(const char* name);
  /// An object of inputs by name.
  std::vector<std::pair<std::string, Tensor>> named_tensors(const char* name);
  std::vector<int64_t> integers(const char* name);
  /// Whether an argument is given, and is a number.
  bool is_number(const char* name);
  double number(const char* name, double otherwise);
  int64_t integer(const char* name, int64_t otherwise);
  bool flag(const char* name, bool otherwise);
  /// Throws where something other than None or {} is given.
  void nothing(const char* name);
  Tensor draw(const std::string& name) const;
  void finish() const;

 private:
  const Json* take(const char* name);
  Tensor input(const Json& value, const char* name) const;
  std::string method_;
  std::vector<Json> positional_;
  std::map<std::string, Json> named_;
  std::set<std::string> taken_;
  const TensorMap& inputs_;
  TensorMap draws_;
};

/// A built module (none for a function) and how to call it. call returns the outputs in order, without None.
struct Subject {
  std::shared_ptr<Module> module;
  std::function<Tensors(Arguments&)> call;
};

/// Builds a subject from the original's keyword arguments.
using Factory = std::function<Subject(const Json& config)>;

/// Finds "package.Class"; submodules in between do not matter (package.part.Class is the same). Throws for an unknown
/// name.
const Factory& find_system(const std::string& name);

/// A nested module {"class": "Name", options...} of a package (looked up there first, then by its full name), as an M.
template <class M>
std::shared_ptr<M> build_nested(const std::string& package, const Json& spec);

/// The name of a class given as "Name", "module.Name" or {"class": "Name"}.
std::string class_name(const Json& value);

// One function a system: its table.
using Table = std::map<std::string, Factory>;
void add_flash(Table& table);
void add_gpt2(Table& table);
void add_xt(Table& table);

/// Takes `key` out of a config, null where there is none.
Json extract(Json& config, const char* key);

std::shared_ptr<Module> build_nested_module(const std::string& package, const Json& spec);

template <class M>
std::shared_ptr<M> build_nested(const std::string& package, const Json& spec) {
  const std::shared_ptr<Module> module = build_nested_module(package, spec);
  const auto result = std::dynamic_pointer_cast<M>(module);
  check(result != nullptr, "a ", module->name(), " cannot stand here");
  return result;
}

}  // namespace weft::parity

#include "systems.h"

#include <cmath>

namespace weft::parity {
namespace {

const Table& table() {
  static const Table all = [] {
    Table t;
    add_flash(t);
    add_gpt2(t);
    add_xt(t);
    return t;
  }();
  return all;
}

// "package.part.Class" → "package.Class"
std::string short_name(const std::string& name) {
  const size_t first = name.find('.'), last = name.rfind('.');
  return first == std::string::npos ? name : name.substr(0, first) + name.substr(last);
}

}  // namespace

const Factory& find_system(const std::string& name) {
  const auto it = table().find(short_name(name));
  check(it != table().end(), "no class called ", name, " here");
  return it->second;
}

Json extract(Json& config, const char* key) {
  if (!config.contains(key)) return nullptr;
  Json value = config[key];
  config.erase(key);
  return value;
}

std::string class_name(const Json& value) {
  const Json& text = value.is_object() && value.contains("class") ? value["class"]
                     : value.is_object() && value.contains("py")  ? value["py"]
                                                                  : value;
  check(text.is_string(), "expected the name of a class, got ", value.type_name());
  const auto name = text.get<std::string>();
  return name.substr(name.rfind('.') + 1);
}

std::shared_ptr<Module> build_nested_module(const std::string& package, const Json& spec) {
  check(spec.is_object() && spec.contains("class") && spec["class"].is_string(),
        "expected a module {\"class\": name, ...}");
  const auto name = spec["class"].get<std::string>();
  Json config = spec;
  config.erase("class");
  const std::string inside = package + "." + name.substr(name.rfind('.') + 1);
  const Subject subject = find_system(table().count(inside) ? inside : name)(config);
  check(subject.module != nullptr, name, " is not a module");
  return subject.module;
}

// --- arguments -------------------------------------------------------------------------------------------------------

Arguments::Arguments(const Json& call, const TensorMap& inputs, TensorMap draws)
    : inputs_(inputs), draws_(std::move(draws)) {
  check(call.is_object(), "call: expected a JSON object");
  for (const auto& [key, value] : call.items()) {
    if (key == "method" && value.is_string())
      method_ = value.get<std::string>();
    else if (key == "args" && value.is_array())
      positional_.assign(value.begin(), value.end());
    else if (key == "kwargs" && value.is_object())
      for (const auto& [name, v] : value.items()) named_[name] = v;
    else
      fail("call: cannot read ", key);
  }
}

void Arguments::bind(std::initializer_list<const char*> names) {
  check(positional_.size() <= names.size(), "call: ", positional_.size(), " positional arguments, at most ",
        names.size(), " are taken");
  auto name = names.begin();
  for (const Json& value : positional_) {
    check(named_.emplace(*name, value).second, "call: argument ", *name, " is given twice");
    ++name;
  }
  positional_.clear();
}

const Json* Arguments::take(const char* name) {
  taken_.insert(name);
  const auto it = named_.find(name);
  return it == named_.end() || it->second.is_null() ? nullptr : &it->second;
}

Tensor Arguments::input(const Json& value, const char* name) const {
  if (value.is_null()) return {};
  check(value.is_string(), "call: argument ", name, " must name an input");
  const auto it = inputs_.find(value.get<std::string>());
  check(it != inputs_.end(), "call: no input in.", value.get<std::string>(), " for argument ", name);
  return it->second;
}

Tensor Arguments::tensor_or_none(const char* name) {
  const Json* value = take(name);
  return value ? input(*value, name) : Tensor();
}

Tensors Arguments::tensors(const char* name) {
  Tensors all;
  const Json* value = take(name);
  if (!value) return all;
  check(value->is_array(), "call: argument ", name, " must be a list of inputs");
  for (const Json& v : *value) all.push_back(v == 1 ? Tensor() : input(v, name));
  return all;
}

void Arguments::nothing(const char* name) {
  const Json* value = take(name);
  check(!value || value->empty(), "call: argument ", name, " has no meaning here");
}

std::vector<std::pair<std::string, Tensor>> Arguments::named_tensors(const char* name) {
  std::vector<std::pair<std::string, Tensor>> all;
  const Json* value = take(name);
  if (!value) return all;
  check(value->is_object(), "call: argument ", name, " must be an object of inputs");
  for (const auto& [key, v] : value->items()) all.emplace_back(key, input(v, name));
  return all;
}

std::vector<int64_t> Arguments::integers(const char* name) {
  const Json* value = take(name);
  if (!value) return {};
  check(value->is_array(), "call: argument ", name, " must be a list of integers");
  return value->get<std::vector<int64_t>>();
}

bool Arguments::is_number(const char* name) {
  const auto it = named_.find(name);
  return it != named_.end() && it->second.is_number();
}

Tensor Arguments::tensor(const char* name) {
  const Tensor t = tensor_or_none(name);
  check(t.defined(), "call: argument ", name, " is missing");
  return t;
}

double Arguments::number(const char* name, double otherwise) {
  const Json* value = take(name);
  if (!value) return otherwise;
  check(value->is_number(), "call: argument ", name, " must be a number");
  return value->get<double>();
}

int64_t Arguments::integer(const char* name, int64_t otherwise) {
  const Json* value = take(name);
  if (!value) return otherwise;
  check(value->is_number() && std::trunc(value->get<double>()) == value->get<double>(), "call: argument ", name,
        " must be an integer");
  return value->get<int64_t>();
}

bool Arguments::flag(const char* name, bool otherwise) {
  const Json* value = take(name);
  if (!value) return otherwise;
  check(value->is_boolean(), "call: argument ", name, " must be true or false");
  return value->get<bool>();
}

Tensor Arguments::draw(const std::string& name) const {
  const auto it = draws_.find(name);
  return it == draws_.end() ? Tensor() : it->second;
}

void Arguments::finish() const {
  check(positional_.empty(), "call: positional arguments are not taken");
  for (const auto& [name, value] : named_)
    check(taken_.count(name) || value.is_null(), "call: no argument called ", name);
}

}  // namespace weft::parity

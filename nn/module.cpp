#include <weft/autograd/autograd.h>
#include <weft/nn/module.h>

#include <algorithm>
#include <map>
#include <set>

namespace weft {

Tensor Module::forward(const Tensor&) const {
  fail(name(), ": is not called with a single tensor; see its operator()");
}

// --- registration ----------------------------------------------------------------------------------------------------

void Module::check_name(const std::string& n) const {
  check(!n.empty() && n.find('.') == std::string::npos, name(), ": '", n, "' is not a name for a parameter or module");
  for (const Entry& e : tensors_) check(e.name != n, name(), ": '", n, "' is registered twice");
  for (const Child& c : children_) check(c.name != n, name(), ": '", n, "' is registered twice");
}

Tensor Module::register_parameter(const std::string& n, Tensor t) {
  check_name(n);
  if (!t.defined()) return t;
  t.requires_grad_();
  tensors_.push_back({n, t, true, true});
  return t;
}

Tensor Module::register_buffer(const std::string& n, Tensor t, bool persistent) {
  check_name(n);
  if (t.defined()) tensors_.push_back({n, t, false, persistent});
  return t;
}

void Module::register_module(const std::string& n, Module& child) { add_child(n, &child, nullptr); }

void Module::add_child(const std::string& n, Module* child, std::shared_ptr<Module> owner) {
  check_name(n);
  check(child != nullptr, name(), ": no module given for '", n, "'");
  children_.push_back({n, child, std::move(owner)});
}

// --- walking ---------------------------------------------------------------------------------------------------------

template <class F>
void Module::visit_tensors(const std::string& prefix, F&& f) const {
  for (const Entry& e : tensors_) f(prefix + e.name, e.tensor, e.is_parameter, e.persistent);
  for (const Child& c : children_) c.module->visit_tensors(prefix + c.name + ".", f);
}

NamedTensors Module::named_parameters() const {
  NamedTensors out;
  std::set<TensorImpl*> seen;
  visit_tensors("", [&](const std::string& n, const Tensor& t, bool is_parameter, bool) {
    if (is_parameter && seen.insert(&t.impl()).second) out.emplace_back(n, t);
  });
  return out;
}

Tensors Module::parameters() const {
  Tensors out;
  for (auto& [n, t] : named_parameters()) out.push_back(t);
  return out;
}

NamedTensors Module::named_buffers() const {
  NamedTensors out;
  visit_tensors("", [&](const std::string& n, const Tensor& t, bool is_parameter, bool) {
    if (!is_parameter) out.emplace_back(n, t);
  });
  return out;
}

int64_t Module::num_parameters() const {
  int64_t n = 0;
  for (const auto& [name, t] : named_parameters()) n += t.numel();
  return n;
}

NamedTensors Module::state_dict() const {
  NamedTensors out;
  visit_tensors("", [&](const std::string& n, const Tensor& t, bool, bool persistent) {
    if (persistent) out.emplace_back(n, t.detach());
  });
  return out;
}

void Module::load_state_dict(const NamedTensors& state, bool strict) {
  std::map<std::string, Tensor> given(state.begin(), state.end());
  check(given.size() == state.size(), name(), ": load_state_dict: a name is given twice");
  std::string missing, unexpected, misshapen;
  auto list = [](std::string& s, const std::string& item) { s += (s.empty() ? "" : ", ") + item; };
  std::vector<std::pair<Tensor, Tensor>> copies;
  std::set<std::string> known;
  visit_tensors("", [&](const std::string& n, const Tensor& t, bool, bool persistent) {
    if (!persistent) return;
    known.insert(n);
    auto it = given.find(n);
    if (it == given.end())
      list(missing, n);
    else if (!(it->second.shape() == t.shape()))
      list(misshapen, concat(n, " (", it->second.shape(), " given, ", t.shape(), " here)"));
    else
      copies.emplace_back(t, it->second);
  });
  for (const auto& [n, t] : state) {
    if (!known.count(n)) list(unexpected, n);
  }
  if (!strict) missing.clear(), unexpected.clear();
  std::string problems;
  if (!missing.empty()) problems += "; missing: " + missing;
  if (!unexpected.empty()) problems += "; unexpected: " + unexpected;
  if (!misshapen.empty()) problems += "; of another shape: " + misshapen;
  check(problems.empty(), name(), ": load_state_dict", problems);
  NoGrad guard;
  for (auto& [mine, value] : copies) mine.copy_(value.detach().to(mine.device()));
}

template <class M, class F>
void Module::walk(const std::string& prefix, M& module, const F& f) {
  f(prefix, module);
  for (const Child& c : module.children_) walk<M>(prefix.empty() ? c.name : prefix + "." + c.name, *c.module, f);
}

void Module::apply(const std::function<void(const std::string&, Module&)>& f) { walk("", *this, f); }
void Module::apply(const std::function<void(const std::string&, const Module&)>& f) const { walk("", *this, f); }

void Module::train(bool on) {
  training_ = on;
  for (const Child& c : children_) c.module->train(on);
}

void Module::to(Device device) {
  NoGrad guard;
  visit_tensors("", [&](const std::string&, const Tensor& t, bool, bool) {
    if (!(t.device() == device)) t.set_data(t.detach().to(device));
  });
}

void Module::to(DType dtype) {
  check(is_floating(dtype), name(), ": to: expected a floating dtype, got ", dtype);
  NoGrad guard;
  visit_tensors("", [&](const std::string&, const Tensor& t, bool, bool) {
    if (t.is_floating() && t.dtype() != dtype) t.set_data(t.detach().to(dtype));
  });
}

void Module::requires_grad_(bool on) {
  for (auto& [n, t] : named_parameters()) Tensor(t).requires_grad_(on);
}

void Module::zero_grad() {
  for (auto& [n, t] : named_parameters()) t.set_grad({});
}

// --- printing --------------------------------------------------------------------------------------------------------

void Module::print(std::string& s, int indent) const {
  s += name() + "(" + extra_repr();
  if (!children_.empty()) {
    for (const Child& c : children_) {
      s += "\n" + std::string(static_cast<size_t>(indent) + 2, ' ') + "(" + c.name + "): ";
      c.module->print(s, indent + 2);
    }
    s += "\n" + std::string(static_cast<size_t>(indent), ' ');
  }
  s += ")";
}

std::string Module::to_string() const {
  std::string s;
  print(s, 0);
  return s;
}

}  // namespace weft

#include "run_case.h"

#include <weft/autograd/autograd.h>
#include <weft/nn/xt/attention.h>
#include <weft/tensor/safetensors.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>

#include "float32_softmax.h"
#include "systems.h"

namespace weft::parity {
namespace {

struct Bounds {
  double out = 1e-9, gin = 1e-8, gparam = 1e-8;
};

struct CaseFile {
  std::string module;
  Json config, call;
  DType dtype = float64;
  bool exact_softmax = false;  // the original's attention was made to take its softmax in the model's own dtype
  Bounds bounds;
  NamedTensors params, gparams;
  TensorMap inputs, draws, gins;
  std::map<int64_t, Tensor> outs, gouts;
};

// --- reading ---------------------------------------------------------------------------------------------------------

Json json_entry(const std::map<std::string, std::string>& metadata, const char* key, const char* otherwise) {
  const auto it = metadata.find(key);
  const Json value = Json::parse(it == metadata.end() ? otherwise : it->second, nullptr, false);
  check(value.is_object(), "metadata: ", key, " is not a JSON object");
  return value;
}

int64_t output_index(const std::string& name, const std::string& digits) {
  check(!digits.empty() && digits.size() < 6 && digits.find_first_not_of("0123456789") == std::string::npos,
        "cannot read ", name);
  return std::stoll(digits);
}

void add_tensor(CaseFile& c, const std::string& full, const Tensor& t) {
  const size_t dot = full.find('.');
  check(dot != std::string::npos, "cannot read ", full);
  const std::string kind = full.substr(0, dot), name = full.substr(dot + 1);
  if (kind == "param")
    c.params.emplace_back(name, t);
  else if (kind == "gparam")
    c.gparams.emplace_back(name, t);
  else if (kind == "in")
    c.inputs[name] = t;
  else if (kind == "rng")
    c.draws[name] = t;
  else if (kind == "gin")
    c.gins[name] = t;
  else if (kind == "out")
    c.outs[output_index(full, name)] = t;
  else if (kind == "gout")
    c.gouts[output_index(full, name)] = t;
  else
    fail("cannot read ", full);
}

CaseFile read_case(const std::string& path, CaseResult& result) {
  const SafetensorsFile file(path);
  const auto& metadata = file.metadata();
  CaseFile c;
  const auto module = metadata.find("module");
  check(module != metadata.end() && !module->second.empty(), "metadata: no module is named");
  c.module = result.module = module->second;
  c.config = json_entry(metadata, "config", "{}");
  c.call = json_entry(metadata, "call", "{\"args\": [\"x\"]}");
  if (metadata.count("dtype")) c.dtype = dtype_from_name(metadata.at("dtype"));
  c.exact_softmax = metadata.count("softmax") && metadata.at("softmax") == "exact";
  check(is_floating(c.dtype), "metadata: dtype ", c.dtype, " is not floating");
  const Json tolerance = json_entry(metadata, "tolerance", "{}");
  for (const auto& [kind, bound] : tolerance.items()) {
    check(bound.is_number(), "metadata: the tolerance of ", kind, " is not a number");
    (kind == "out" ? c.bounds.out : kind == "gin" ? c.bounds.gin : c.bounds.gparam) = bound.get<double>();
  }
  for (const std::string& name : file.names()) add_tensor(c, name, file.tensor(name));
  check(!c.outs.empty(), "the file holds no outputs");
  return c;
}

// --- comparing -------------------------------------------------------------------------------------------------------

// ‖got - want‖ / (‖want‖ + 1e-12). Infinities that are equal on both sides count as equal; NaN gives NaN.
double relative_error(const Tensor& got, const Tensor& want) {
  const auto a = got.detach().cpu().to_vector<double>(), b = want.to_vector<double>();
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::isinf(b[i]) && a[i] == b[i]) continue;
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(difference) / (std::sqrt(norm) + 1e-12);
}

class Comparison {
 public:
  explicit Comparison(std::string& failure) : failure_(failure) {}

  void tensor(const char* kind, const std::string& name, const Tensor& got, const Tensor& want, double bound,
              double& worst) {
    if (!(got.shape() == want.shape()))
      return add(concat(kind, name, " has shape ", got.shape(), ", not ", want.shape()));
    const double error = relative_error(got, want);
    if (!(error <= worst)) worst = error;
    if (!(error <= bound)) add(concat(kind, name, " ", digits(error), " > ", digits(bound)));
  }
  void add(const std::string& what) {
    if (++count_ <= 3) failure_ += (failure_.empty() ? "" : ", ") + what;
    if (count_ == 4) failure_ += ", ...";
  }
  static std::string digits(double v) {
    char text[32];
    std::snprintf(text, sizeof text, "%.1e", v);
    return text;
  }

 private:
  std::string& failure_;
  int count_ = 0;
};

// --- running ---------------------------------------------------------------------------------------------------------

// Every name of every parameter: a tied one has several.
std::map<std::string, Tensor> all_parameter_names(const Module& module) {
  std::map<const void*, Tensor> by_memory;
  std::map<std::string, Tensor> names;
  for (const auto& [name, p] : module.named_parameters()) {
    names[name] = p;
    if (p.numel() > 0) by_memory[p.raw_data()] = p;
  }
  for (const auto& [name, t] : module.state_dict()) {
    if (t.numel() == 0) continue;
    const auto it = by_memory.find(t.raw_data());
    if (it != by_memory.end()) names.emplace(name, it->second);
  }
  return names;
}

bool is_zero(const Tensor& t) {
  const auto values = t.detach().cpu().to_vector<double>();
  return std::all_of(values.begin(), values.end(), [](double v) { return v == 0; });
}

void compare_parameters(const Module& module, const CaseFile& c, double bound, Comparison& comparison, double& worst) {
  const auto parameters = all_parameter_names(module);
  std::set<const TensorImpl*> seen;
  for (const auto& [name, want] : c.gparams) {
    const auto it = parameters.find(name);
    if (it == parameters.end()) {
      comparison.add("gparam " + name + ": no such parameter here");
      continue;
    }
    seen.insert(&it->second.impl());
    const Tensor grad = it->second.grad();
    if (grad.defined())
      comparison.tensor("gparam ", name, grad, want, bound, worst);
    else if (is_zero(want))
      worst = std::max(worst, 0.0);
    else
      comparison.add("gparam " + name + ": no gradient here");
  }
  for (const auto& [name, p] : module.named_parameters()) {
    if (!seen.count(&p.impl()) && p.grad().defined() && !is_zero(p.grad()))
      comparison.add("gparam " + name + ": the original has no gradient");
  }
}

// x-transformers takes the softmax of plain attention in float32, also in a model that was converted to float64.
void soften_as_the_original(Module& module) {
  module.apply([](const std::string&, Module& m) {
    const auto attention = dynamic_cast<xt::Attention*>(&m);
    if (attention && !attention->config().qk_norm) attention->attend().set_softmax(float32_softmax);
  });
}

void run(const CaseFile& c, const RunOptions& options, const std::string& name, CaseResult& result) {
  const DType dtype = options.dtype.value_or(c.dtype);
  Bounds bounds = c.bounds;
  if (options.dtype && dtype == float32) bounds = {2e-5, 2e-5, 2e-5};
  if (options.dtype && is_half(dtype)) bounds = {3e-2, 3e-2, 3e-2};
  const auto place = [&](const Tensor& t) {
    const Tensor copy = t.clone().to(options.device);  // off the mapped file
    return copy.is_floating() ? copy.to(dtype) : copy;
  };

  Json config = c.config;
  const bool training = config.contains("training") && config["training"] == true;
  config.erase("training");
  const Subject subject = find_system(c.module)(config);
  if (subject.module) {
    subject.module->to(c.dtype);
    subject.module->load_state_dict(c.params);
    if (!options.save.empty())
      save_safetensors((std::filesystem::path(options.save) / name).string(), subject.module->state_dict(), {});
    subject.module->to(dtype);
    subject.module->to(options.device);
    subject.module->train(training);
    if (dtype == float64 && !c.exact_softmax) soften_as_the_original(*subject.module);
  } else {
    check(c.params.empty(), c.module, " is a function, but the file has parameters");
  }

  TensorMap inputs, draws;
  for (const auto& [name, t] : c.inputs) {
    inputs[name] = place(t);
    if (c.gins.count(name)) inputs[name].requires_grad_();
  }
  for (const auto& [name, t] : c.draws) draws[name] = place(t);
  Arguments arguments(c.call, inputs, draws);
  const DefaultDevice there(options.device);
  const Tensors outputs = subject.call(arguments);
  arguments.finish();

  Comparison comparison(result.failure);
  check(outputs.size() == c.outs.size(), "the original has ", c.outs.size(), " outputs, this ", outputs.size());
  Tensors differentiated, upstream;
  for (const auto& [i, want] : c.outs) {
    check(i < static_cast<int64_t>(outputs.size()), "out.", i, " of ", outputs.size(), " outputs");
    const Tensor& got = outputs[static_cast<size_t>(i)];
    comparison.tensor("out.", std::to_string(i), got, want, bounds.out, result.out);
    const auto gout = c.gouts.find(i);
    if (gout == c.gouts.end()) continue;
    check(got.requires_grad(), "out.", i, " has no gradient here");
    check(gout->second.shape() == got.shape(), "gout.", i, " has shape ", gout->second.shape(), ", the output ",
          got.shape());
    differentiated.push_back(got);
    upstream.push_back(gout->second.clone().to(options.device).to(got.dtype()));
  }
  if (!differentiated.empty()) backward(differentiated, upstream);

  for (const auto& [name, want] : c.gins) {
    const auto input = inputs.find(name);
    check(input != inputs.end(), "gin.", name, " has no in.", name);
    const Tensor grad = input->second.grad();
    if (grad.defined())
      comparison.tensor("gin.", name, grad, want, bounds.gin, result.gin);
    else
      comparison.add("gin." + name + ": no gradient here");
  }
  if (subject.module) compare_parameters(*subject.module, c, bounds.gparam, comparison, result.gparam);
}

}  // namespace

CaseResult run_case(const std::string& path, const RunOptions& options) {
  CaseResult result;
  try {
    run(read_case(path, result), options, std::filesystem::path(path).filename().string(), result);
  } catch (const std::exception& e) {
    result.failure = e.what();
  }
  std::replace(result.failure.begin(), result.failure.end(), '\n', ' ');
  return result;
}

std::string result_line(const CaseResult& r, const std::string& path) {
  const auto column = [](const char* kind, double error) {
    std::string text = concat("  ", kind, " ", error < 0 ? "-" : Comparison::digits(error));
    return text;
  };
  std::string line = r.failure.empty() ? "ok    " : "FAIL  ";
  line += r.module;
  if (r.module.size() < 26) line.append(26 - r.module.size(), ' ');
  if (r.failure.empty())
    line += column("out", r.out) + column("gin", r.gin) + column("gparam", r.gparam);
  else
    line += "  " + r.failure;
  return line + "   " + std::filesystem::path(path).filename().string();
}

}  // namespace weft::parity

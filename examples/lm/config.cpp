#include <weft/examples/lm/config.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

namespace weft::lm {
namespace {

using Json = nlohmann::ordered_json;

std::string field_name(std::string flag) {
  std::replace(flag.begin(), flag.end(), '-', '_');
  return flag;
}

Fields fields_of(std::vector<Option>& table, std::vector<std::string>& names) {
  for (const Option& option : table) names.push_back(field_name(option.flag));
  Fields fields;
  for (size_t i = 0; i < table.size(); ++i)
    std::visit(
        [&](auto value) {
          if constexpr (std::is_pointer_v<decltype(value)>) fields.emplace_back(names[i].c_str(), value);
        },
        table[i].value);
  return fields;
}

template <class... Reason>
void require(bool ok, const char* flag, const Reason&... reason) {
  check(ok, "--", flag, " ", reason...);
}

void one_of(const std::string& value, const char* flag, std::initializer_list<const char*> names) {
  std::string list;
  for (const char* name : names) {
    if (value == name) return;
    list += (list.empty() ? "" : ", ") + std::string(name);
  }
  fail("--", flag, " is one of ", list, ", not ", value);
}

}  // namespace

std::vector<Option> options(TrainConfig& c) {
  return {
      {"model", "flash, or gpt (the decoder of x-transformers)", "Model", &c.model},
      {"model-options", "changes to the model's own options, as a JSON object", "Model", &c.model_options},
      {"embedding-init", "factor on the initial embeddings", "Model", &c.embedding_init},
      {"bias-init", "factor on the initial relative position biases", "Model", &c.bias_init},

      {"data", "text to learn: a file (plain or gzip) or a folder; without it, Eigen's headers", "Text", &c.data},
      {"max-bytes", "use at most this much of the text; 0: all", "Text", &c.max_bytes},
      {"valid-fraction", "share of the text held out for validation", "Text", &c.valid_fraction},
      {"valid-blocks", "held out in so many blocks spread over the text; 1: its tail", "Text", &c.valid_blocks},
      {"random-windows", "draw every window anywhere, instead of passes over the text", "Text", &c.random_windows},

      {"seq-len", "bytes a sequence", "Optimisation", &c.seq_len},
      {"batch", "sequences a backward pass", "Optimisation", &c.batch},
      {"accumulate", "backward passes a step", "Optimisation", &c.accumulate},
      {"steps", "length of the run; 0: until the time limit", "Optimisation", &c.steps, false},
      {"optimizer", "adam or adamw", "Optimisation", &c.optimizer},
      {"lr", "learning rate", "Optimisation", &c.lr},
      {"beta1", "Adam's decay of the mean", "Optimisation", &c.beta1},
      {"beta2", "Adam's decay of the square", "Optimisation", &c.beta2},
      {"epsilon", "Adam's epsilon", "Optimisation", &c.epsilon},
      {"weight-decay", "adamw's weight decay (matrices only)", "Optimisation", &c.weight_decay},
      {"clip", "bound on the norm of the gradients; 0: none", "Optimisation", &c.clip},
      {"schedule", "learning rate: constant, linear, cosine or wsd (constant, then falling)", "Optimisation",
       &c.schedule},
      {"warmup", "steps in which the learning rate rises", "Optimisation", &c.warmup},
      {"decay", "wsd: share of the run in which the rate falls to zero", "Optimisation", &c.decay},
      {"min-lr", "linear, cosine: the rate ends at this share of --lr", "Optimisation", &c.min_lr},
      {"seed", "of the weights and of the order of the text", "Optimisation", &c.seed},
      {"precision", "float32, or bfloat16 (mixed, float32 master weights)", "Optimisation", &c.precision},

      {"device", "cpu or cuda", "Run", &c.device, false},
      {"threads", "CPU threads; 0: all", "Run", &c.threads, false},
      {"time-limit", "minutes of training; 0: none", "Run", &c.time_limit, false},
      {"log-every", "steps between lines of metrics.jsonl", "Run", &c.log_every, false},
      {"valid-every", "steps between validations", "Run", &c.valid_every, false},
      {"valid-windows", "sequences a validation on the way takes (the last takes all)", "Run", &c.valid_windows, false},
      {"sample-every", "steps between samples; 0: none", "Run", &c.sample_every, false},
      {"sample-length", "bytes of a sample", "Run", &c.sample_length, false},
      {"save-every", "steps between checkpoints", "Run", &c.save_every, false},
      {"keep", "checkpoints kept", "Run", &c.keep, false},
  };
}

TrainConfig preset(const std::string& name, const std::string& model) {
  TrainConfig c;
  c.model = model;
  const bool gpt = model == "gpt";
  if (gpt) c.embedding_init = 1;  // they start small already, with deviation √(2 / dim)
  if (name.empty()) {
    if (gpt)
      c.model_options =
          R"({"dim": 256, "depth": 4, "heads": 4, "ff_mult": 2.5, "shift_tokens": 1, "add_value_residual": true})";
    return c;
  }
  if (name == "flash-paper") {
    check(model == "flash", "--preset flash-paper is a recipe of flash, not of ", model);
    // train.py of the FLASH-pytorch project: random windows of the first 95 MB of enwik8, its last 5 MB held out.
    c.model_options = R"({"dim": 512, "depth": 8, "group_size": 256, "shift_tokens": true})";
    c.embedding_init = 1, c.bias_init = 1;
    c.max_bytes = 95'000'000, c.valid_fraction = 5.0 / 95.0, c.valid_blocks = 1, c.random_windows = true;
    c.seq_len = 1024, c.batch = 4, c.accumulate = 4, c.steps = 100'000;
    c.optimizer = "adam", c.lr = 2e-4, c.beta2 = 0.999, c.clip = 0.5, c.schedule = "constant", c.warmup = 0;
    c.log_every = 10, c.valid_every = 100, c.sample_every = 500, c.sample_length = 512, c.save_every = 500;
    return c;
  }
  if (name == "quick") {
    // The best found for a few minutes on two cores: many small steps of a small model whose weights start small.
    c.model_options =
        R"({"dim": 128, "depth": 6, "group_size": 64, "query_key_dim": 32, "expansion_factor": 1.5, "laplace_attn_fn": true})";
    if (gpt)
      c.model_options =
          R"({"dim": 128, "depth": 4, "heads": 4, "attn_dim_head": 32, "ff_mult": 2, "shift_tokens": 1, "add_value_residual": true})";
    c.seq_len = 256, c.batch = 4, c.steps = 0, c.time_limit = 3;
    c.lr = 4e-3, c.beta2 = 0.98, c.weight_decay = 0.1, c.schedule = "wsd", c.warmup = 150, c.decay = 0.8;
    c.valid_every = 500, c.valid_windows = 128, c.sample_every = 0, c.save_every = 1000;
    return c;
  }
  if (name == "gpu") {
    // At most a GPU's five minutes: the default model, wider and longer, on batches that fill the device. Eight passes
    // over Eigen's headers; with three times as many the held-out text gets harder to predict again.
    c.model_options = R"({"dim": 512, "depth": 8, "group_size": 256, "query_key_dim": 128, "laplace_attn_fn": true})";
    if (gpt)
      c.model_options =
          R"({"dim": 512, "depth": 6, "heads": 8, "ff_mult": 2.5, "shift_tokens": 1, "add_value_residual": true})";
    c.device = "cuda", c.precision = "bfloat16";
    c.seq_len = 1024, c.batch = 16, c.steps = 4000, c.time_limit = 5;
    c.lr = 1e-3, c.beta2 = 0.98, c.weight_decay = 0.1, c.schedule = "wsd", c.warmup = 300, c.decay = 0.8;
    c.log_every = 50, c.valid_every = 1000, c.valid_windows = 128, c.sample_every = 0, c.save_every = 2000;
    return c;
  }
  fail("--preset is one of flash-paper, gpu, quick, not ", name);
}

std::string to_json(TrainConfig config) {
  auto table = options(config);
  std::vector<std::string> names;
  Json json = Json::parse(write_json(fields_of(table, names)));
  json["model_options"] = Json::parse(config.model_options);  // an object among the others, not a quoted one
  return json.dump(2) + "\n";
}

TrainConfig from_json(std::string_view text, std::string_view where) {
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  check(json.is_object(), where, ": not a JSON object");
  if (json.contains("model_options")) json["model_options"] = json["model_options"].dump();
  TrainConfig config;
  auto table = options(config);
  std::vector<std::string> names;
  read_json(fields_of(table, names), json.dump(), where);
  return config;
}

std::string merge_model_options(const std::string& options, const std::string& changes) {
  const Json patch = Json::parse(changes, nullptr, /*allow_exceptions=*/false);
  Json merged = Json::parse(options, nullptr, /*allow_exceptions=*/false);
  if (!patch.is_object()) return changes;
  if (!merged.is_object()) return options;
  merged.update(patch);
  return merged.dump();
}

void validate(const TrainConfig& c) {
  const auto positive = [](const char* flag, double value) {
    require(value > 0, flag, "must be above 0, not ", value);
  };
  const auto not_negative = [](const char* flag, double value) {
    require(value >= 0, flag, "must not be negative: ", value);
  };
  const auto share = [](const char* flag, double value) {
    require(value >= 0 && value <= 1, flag, "is a share from 0 to 1, not ", value);
  };
  const Json model_options = Json::parse(c.model_options, nullptr, /*allow_exceptions=*/false);
  require(model_options.is_object(), "model-options", "must be a JSON object, not ", c.model_options);
  not_negative("max-bytes", static_cast<double>(c.max_bytes));
  require(c.valid_fraction > 0 && c.valid_fraction < 1, "valid-fraction", "lies between 0 and 1: ", c.valid_fraction);
  const std::pair<const char*, int64_t> at_least_one[] = {{"valid-blocks", c.valid_blocks},
                                                          {"seq-len", c.seq_len},
                                                          {"batch", c.batch},
                                                          {"accumulate", c.accumulate},
                                                          {"log-every", c.log_every},
                                                          {"valid-every", c.valid_every},
                                                          {"save-every", c.save_every},
                                                          {"valid-windows", c.valid_windows},
                                                          {"keep", c.keep}};
  for (const auto& [flag, value] : at_least_one) require(value >= 1, flag, "must be at least 1, not ", value);
  const std::pair<const char*, int64_t> from_zero[] = {{"steps", c.steps},     {"warmup", c.warmup},
                                                       {"threads", c.threads}, {"sample-every", c.sample_every},
                                                       {"seed", c.seed},       {"sample-length", c.sample_length}};
  for (const auto& [flag, value] : from_zero) require(value >= 0, flag, "must not be negative: ", value);
  positive("lr", c.lr), positive("epsilon", c.epsilon);
  require(c.beta1 >= 0 && c.beta1 < 1, "beta1", "lies from 0 to below 1: ", c.beta1);
  require(c.beta2 >= 0 && c.beta2 < 1, "beta2", "lies from 0 to below 1: ", c.beta2);
  not_negative("weight-decay", c.weight_decay), not_negative("clip", c.clip), not_negative("time-limit", c.time_limit);
  share("decay", c.decay), share("min-lr", c.min_lr);
  one_of(c.optimizer, "optimizer", {"adam", "adamw"});
  one_of(c.schedule, "schedule", {"constant", "linear", "cosine", "wsd"});
  one_of(c.precision, "precision", {"float32", "bfloat16"});
  require(c.steps > 0 || c.time_limit > 0, "steps", "0 means until the time limit: give --time-limit");
  require(c.steps > 0 || c.schedule == "constant" || c.schedule == "wsd", "schedule", c.schedule,
          " has to know the length of the run: give --steps, or use wsd");
}

void check_same_run(TrainConfig stored, TrainConfig wanted) {
  const Json before = Json::parse(to_json(stored)), after = Json::parse(to_json(wanted));
  for (const Option& option : options(stored)) {
    const std::string name = field_name(option.flag);
    check(!option.fixed || before[name] == after[name], "--", option.flag, " was ", before[name].dump(),
          " when this run began and cannot become ", after[name].dump(), " on --resume");
  }
}

Plan initial_plan(const TrainConfig& config) {
  if (config.steps == 0) return {};
  return {config.steps, config.steps - static_cast<int64_t>(std::llround(config.decay * double(config.steps)))};
}

double plan_left(const Plan& plan, int64_t step) {
  if (plan.total == 0 || step < plan.decay_from) return 1;
  // Never quite zero: the last step still moves.
  return std::clamp(double(plan.total - step) / double(plan.total - plan.decay_from + 1), 1e-3, 1.0);
}

double learning_rate(const TrainConfig& config, const Plan& plan, int64_t step) {
  const double rise = step < config.warmup ? double(step + 1) / double(config.warmup) : 1;
  if (config.schedule == "wsd") return config.lr * std::min(rise, plan_left(plan, step));
  if (config.schedule == "linear" || config.schedule == "cosine") {
    const double done =
        std::clamp(double(step - config.warmup) / double(std::max<int64_t>(1, plan.total - config.warmup)), 0.0, 1.0);
    const double left = config.schedule == "linear" ? 1 - done : 0.5 * (1 + std::cos(std::numbers::pi * done));
    return config.lr * rise * (config.min_lr + (1 - config.min_lr) * left);
  }
  return config.lr * rise;
}

}  // namespace weft::lm

// What a training run is made from: every option of train_lm, its preset values, and its form in config.json.
#pragma once

#include <weft/nn/config.h>

#include <string>
#include <vector>

namespace weft::lm {

// The defaults suit some ten minutes on two cores.
struct TrainConfig {
  // The model: a row of the table in models.h and, as a JSON object, the options that its own config knows.
  std::string model = "flash";
  std::string model_options =
      R"({"dim": 256, "depth": 6, "group_size": 64, "query_key_dim": 64, "expansion_factor": 1.5, "laplace_attn_fn": true})";
  double embedding_init = 0.1;  // factor on the initial embeddings
  double bias_init = 0;         // factor on the initial relative position biases

  // The text.
  std::string data;       // file or folder; empty: the headers of Eigen found when weft was built
  int64_t max_bytes = 0;  // read at most this much of it; 0: all
  double valid_fraction = 0.05;
  int64_t valid_blocks = 32;    // held out in so many blocks spread over the text; 1: its tail
  bool random_windows = false;  // every window starts anywhere, instead of passes that show each byte once

  // Optimisation.
  int64_t seq_len = 512;   // bytes a sequence
  int64_t batch = 4;       // sequences a backward pass
  int64_t accumulate = 1;  // backward passes a step
  int64_t steps = 5000;    // 0: until the time limit
  std::string optimizer = "adamw";
  double lr = 2e-3;
  double beta1 = 0.9, beta2 = 0.98, epsilon = 1e-8;
  double weight_decay = 0.1;  // adamw only; matrices only
  double clip = 1;            // bound on the gradients' norm; 0: none
  std::string schedule = "wsd";
  int64_t warmup = 100;  // steps
  double decay = 0.6;    // wsd: the share of the run in which the rate falls to zero
  double min_lr = 0.0;   // cosine and linear end at this share of lr
  int64_t seed = 0;
  std::string precision = "float32";

  // The run.
  std::string device = "cpu";
  int64_t threads = 0;     // 0: all
  double time_limit = 0;   // minutes of training; 0: none
  int64_t log_every = 10;  // steps
  int64_t valid_every = 250;
  int64_t valid_windows = 64;  // windows a validation on the way; the last one takes all
  int64_t sample_every = 1000;
  int64_t sample_length = 256;
  int64_t save_every = 500;
  int64_t keep = 3;  // checkpoints kept
};

// One option: `--flag` on the command line, the same with underscores in config.json.
struct Option {
  std::string flag, help, group;
  Field::Value value;
  bool fixed = true;  // part of what the run is: a resumed run cannot change it
};

std::vector<Option> options(TrainConfig& config);

// "" for the defaults, "flash-paper", "gpu" or "quick", with what suits the model. Throws weft::Error for another name
// and for flash-paper with another model than flash.
TrainConfig preset(const std::string& name, const std::string& model = "flash");

std::string to_json(TrainConfig config);
TrainConfig from_json(std::string_view json, std::string_view where);

// The JSON object `options` with the values of `changes` on top. What is no object is given back as it is, for
// validate.
std::string merge_model_options(const std::string& options, const std::string& changes);

// Throws weft::Error for a value that makes no sense, naming the option as it is spelled on the command line.
void validate(const TrainConfig& config);

// Throws weft::Error if `wanted` differs from the stored config of a run in an option that a resumed run cannot change.
void check_same_run(TrainConfig stored, TrainConfig wanted);

// How long a run goes on and where its learning rate begins to fall ("wsd"). A run limited by time alone does not know
// at first: total 0. The trainer then fixes the plan from the pace it sees, and stores it with the checkpoints.
struct Plan {
  int64_t total = 0;
  int64_t decay_from = 0;
};
Plan initial_plan(const TrainConfig& config);

// wsd: the share of the full rate that a step has, 1 before the decay.
double plan_left(const Plan& plan, int64_t step);

// Learning rate of a step counted from 0.
double learning_rate(const TrainConfig& config, const Plan& plan, int64_t step);

}  // namespace weft::lm

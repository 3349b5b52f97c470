#include <weft/autograd/autograd.h>
#include <weft/examples/lm/atomic_file.h>
#include <weft/examples/lm/gzip.h>
#include <weft/examples/lm/sampling.h>
#include <weft/examples/lm/trainer.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/loss.h>
#include <weft/ops/matmul.h>
#include <weft/tensor/parallel.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace weft::lm {
namespace fs = std::filesystem;
namespace {

constexpr double kBitsPerNat = 1 / std::numbers::ln2;

// Matrices are decayed; gains, biases and the [buckets, 1] table of position biases are not.
bool is_decayed(const Tensor& parameter) {
  if (parameter.dim() < 2) return false;
  for (const int64_t size : parameter.shape())
    if (size == 1) return false;
  return true;
}

std::unique_ptr<Optimizer> make_optimizer(const TrainConfig& c, const Tensors& parameters) {
  if (c.optimizer == "adam")
    return std::make_unique<Adam>(parameters,
                                  AdamOptions{.lr = c.lr, .beta1 = c.beta1, .beta2 = c.beta2, .eps = c.epsilon});
  ParamGroup decayed{.params = {}, .weight_decay = c.weight_decay}, others{.params = {}, .weight_decay = 0};
  for (const Tensor& p : parameters) (is_decayed(p) ? decayed : others).params.push_back(p);
  return std::make_unique<AdamW>(std::vector<ParamGroup>{decayed, others},
                                 AdamWOptions{.lr = c.lr, .beta1 = c.beta1, .beta2 = c.beta2, .eps = c.epsilon});
}

std::shared_ptr<LanguageModel> make_initial_model(const TrainConfig& config, Device device) {
  manual_seed(static_cast<uint64_t>(config.seed));
  auto model = make_model(config.model, config.model_options);
  scale_initial_weights(*model, config.embedding_init, config.bias_init);
  model->to(device);
  return model;
}

// [rows, window] bytes as int64 tokens.
Tensor as_tokens(const data::Bytes& rows, int64_t count, Device device) {
  const int64_t window = static_cast<int64_t>(rows.size()) / count;
  return tensor(std::vector<int64_t>(rows.begin(), rows.end()), {count, window}, {.dtype = int64, .device = device});
}

std::string folder_title(const fs::path& run) { return fs::absolute(run).lexically_normal().filename().string(); }

}  // namespace

Corpus load_corpus(const TrainConfig& config) {
  const std::string path = config.data.empty() ? WEFT_EIGEN_HEADERS : config.data;
  check(!path.empty(), "no text: give --data FILE (Eigen's headers were not found when weft was built)");
  const int64_t limit = config.max_bytes > 0 ? config.max_bytes : std::numeric_limits<int64_t>::max();
  Corpus corpus;
  corpus.name = config.data.empty() ? "Eigen's headers" : fs::path(path).filename().string();
  corpus.bytes = data::read_corpus({path}, limit, read_plain_or_gzip_file);
  corpus.split = data::split_corpus(
      static_cast<int64_t>(corpus.bytes.size()),
      {.valid_fraction = config.valid_fraction, .blocks = config.valid_blocks, .min_block = config.seq_len + 1});
  corpus.crc = crc32c({reinterpret_cast<const char*>(corpus.bytes.data()), corpus.bytes.size()});
  return corpus;
}

Trainer::Trainer(const TrainConfig& config, fs::path run, bool resume)
    : config_(config),
      run_(std::move(run)),
      corpus_(load_corpus(config)),
      device_(device_from_name(config.device)),
      sampler_(corpus_.bytes, corpus_.split.train,
               {.window = config.seq_len + 1,
                .seed = static_cast<uint64_t>(config.seed),
                .independent = config.random_windows}),
      progress_(stderr, config.steps) {
  set_num_threads(static_cast<int>(config_.threads));
  model_ = make_initial_model(config_, device_);
  optimizer_ = make_optimizer(config_, model_->parameters());
  stepper_ = std::make_unique<Stepper>(config_, model_->parameters(), *optimizer_,
                                       [this](const Tensor& tokens) { return loss(tokens); });
  start_or_resume(resume);
}

void Trainer::start_or_resume(bool resume) {
  state_.plan = initial_plan(config_);
  state_.generator = default_generator().state();
  state_.corpus_size = static_cast<int64_t>(corpus_.bytes.size());
  state_.corpus_crc = corpus_.crc;
  if (resume) {
    check(fs::is_directory(run_ / "checkpoints"), run_.string(),
          " cannot be resumed: its folder checkpoints is missing; start anew with another --out");
    if (const auto checkpoint = latest_checkpoint(run_)) {
      const TrainState fresh = state_;
      state_ = load_checkpoint(*checkpoint, *model_, *optimizer_);
      check(state_.corpus_size == fresh.corpus_size && state_.corpus_crc == fresh.corpus_crc,
            "the text is not the one that this run began with");
      if (config_.steps > 0 && read_config(run_).steps != config_.steps) state_.plan = fresh.plan;
    }
  } else {
    check(!fs::exists(run_ / "config.json"), run_.string(),
          " already holds a run: continue it with --resume, or choose another --out");
    validate(1);  // what a model refuses about its options or the length of a text, it says before there is a folder
    std::error_code error;
    fs::create_directories(run_ / "checkpoints", error);
    check(!error, "cannot make folder ", run_.string(), ": ", error.message());
  }
  for (const auto& entry : fs::directory_iterator(run_ / "checkpoints"))
    if (is_temporary(entry.path())) fs::remove_all(entry.path());
  write_file_atomically(run_ / "config.json", to_json(config_));
  sampler_.restore(state_.text);
  default_generator().set_state(state_.generator);
  const std::optional<int64_t> after = resume ? std::optional(state_.step) : std::nullopt;
  metrics_.emplace(run_ / "metrics.jsonl", after);
  events_.emplace(run_, after);
  progress_.set_total(state_.plan.total);
  seconds_before_ = state_.seconds;
}

// Mean cross entropy (nats) of the last bytes of each window given those before. tokens: [b, n + 1]
Tensor Trainer::loss(const Tensor& tokens) const {
  const Autocast scope(bfloat16, config_.precision == "bfloat16");
  const Tensor logits = model_->forward(tokens.slice(1, 0, -1));
  return cross_entropy(logits.flatten(0, 1), tokens.slice(1, 1).reshape({-1}));
}

void Trainer::train_step() {
  model_->train();
  data::Bytes rows;
  for (int64_t i = 0; i < config_.accumulate; ++i) {
    const data::Bytes part = sampler_.next(config_.batch);
    rows.insert(rows.end(), part.begin(), part.end());
  }
  stepper_->run(rows, learning_rate(config_, state_.plan, state_.step) / config_.lr);
}

// What the steps since the last time have measured; waits for them.
void Trainer::collect() {
  const Stepper::Totals totals = stepper_->take();
  if (totals.steps == 0) return;
  grad_norm_ = totals.grad_norm;
  state_.loss_sum += totals.loss;
  state_.loss_count += totals.steps;
  bits_ = state_.loss_sum / static_cast<double>(state_.loss_count) * kBitsPerNat;
}

bool Trainer::train(const std::atomic<bool>& stop) {
  started_ = Clock::now();
  planned_at_ = elapsed(), planned_step_ = state_.step;
  while (!done() && !stop) {
    fix_plan();
    const auto begin = Clock::now();
    train_step();
    state_.step += 1;
    report(std::chrono::duration<double>(Clock::now() - begin).count());
    if (state_.step % config_.valid_every == 0 && !done()) validate_and_record(config_.valid_windows);
    if (config_.sample_every > 0 && state_.step % config_.sample_every == 0) write_sample();
    if (state_.step % config_.save_every == 0) save();
  }
  progress_.finish();
  save();
  return !stop;
}

void Trainer::report(double step_seconds) {
  step_seconds_ = step_seconds_ == 0 ? step_seconds : 0.95 * step_seconds_ + 0.05 * step_seconds;
  const double tokens_per_second =
      static_cast<double>(config_.seq_len * config_.batch * config_.accumulate) / step_seconds_;
  const bool log = state_.step % config_.log_every == 0 || done();
  if (log || device_.is_cpu()) collect();
  progress_.update(state_.step, fraction_done(), bits_, tokens_per_second, seconds_left(),
                   log && state_.step % (10 * config_.log_every) == 0);
  if (!log) return;
  const double lr = config_.lr * optimizer_->lr_scale();
  metrics_->append({.step = state_.step,
                    .split = "train",
                    .values = {{"bits_per_byte", bits_},
                               {"lr", lr},
                               {"grad_norm", grad_norm_},
                               {"tokens_per_second", std::round(tokens_per_second)},
                               {"seconds", std::round(elapsed() * 100) / 100}}});
  events_->scalar("train/bits_per_byte", bits_, state_.step);
  events_->scalar("train/learning_rate", lr, state_.step);
  events_->scalar("train/grad_norm", grad_norm_, state_.step);
  events_->scalar("train/tokens_per_second", tokens_per_second, state_.step);
  state_.loss_sum = 0, state_.loss_count = 0;
}

int64_t Trainer::validation_bytes(int64_t windows) const {
  return static_cast<int64_t>(data::tile_windows(corpus_.split.valid, config_.seq_len + 1, windows).size()) *
         config_.seq_len;
}

double Trainer::validate(int64_t windows) const {
  const NoGrad no_grad;
  model_->eval();
  const int64_t window = config_.seq_len + 1;
  const auto starts = data::tile_windows(corpus_.split.valid, window, windows);
  const size_t at_once = static_cast<size_t>(std::max<int64_t>(1, 8192 / config_.seq_len));
  double total = 0;
  for (size_t begin = 0; begin < starts.size(); begin += at_once) {
    const size_t end = std::min(starts.size(), begin + at_once);
    data::Bytes rows;
    for (size_t i = begin; i < end; ++i) {
      const auto first = corpus_.bytes.begin() + starts[i];
      rows.insert(rows.end(), first, first + window);
    }
    const auto count = static_cast<int64_t>(end - begin);
    total += loss(as_tokens(rows, count, device_)).item() * static_cast<double>(count);
  }
  return total / static_cast<double>(starts.size()) * kBitsPerNat;
}

double Trainer::finish() {
  const auto& history = metrics_->history();
  // A finished run that is resumed has its result already.
  if (!history.empty() && history.back().step == state_.step &&
      history.back().value("bytes") == static_cast<double>(validation_bytes()))
    return history.back().value("bits_per_byte").value();
  return validate_and_record(std::numeric_limits<int64_t>::max());
}

double Trainer::validate_and_record(int64_t windows) {
  const double bits = validate(windows);
  metrics_->append({.step = state_.step,
                    .split = "valid",
                    .values = {{"bits_per_byte", bits}, {"bytes", static_cast<double>(validation_bytes(windows))}}});
  events_->scalar("valid/bits_per_byte", bits, state_.step);
  events_->flush();
  char line[96];
  std::snprintf(line, sizeof line, "step %lld  validation %.4f bits per byte", static_cast<long long>(state_.step),
                bits);
  progress_.message(line);
  write_file_atomically(run_ / "loss.svg", loss_curve_svg(metrics_->history(), config_.model + " on " + corpus_.name +
                                                                                   " (" + folder_title(run_) + ")"));
  return bits;
}

std::string Trainer::sample(int64_t length) const {
  model_->eval();
  // A generator of its own: samples must not change what the run draws.
  Generator generator(static_cast<uint64_t>(config_.seed) + static_cast<uint64_t>(state_.step));
  const data::Bytes prompt = held_out_line();
  std::string text(prompt.begin(), prompt.end());
  generate(*model_, prompt, length, config_.seq_len, {}, generator,
           [&](uint8_t byte) { text += static_cast<char>(byte); });
  return text;
}

// A line from the middle of the held-out text, with its newline: what samples go on from.
data::Bytes Trainer::held_out_line() const {
  const data::Range block = corpus_.split.valid[corpus_.split.valid.size() / 2];
  const auto end = corpus_.bytes.begin() + block.end;
  auto first = std::find(corpus_.bytes.begin() + block.begin, end, '\n');
  while (first != end && *first == '\n') ++first;
  const auto last = std::find(first, first + std::min<int64_t>(120, end - first), '\n');
  return data::Bytes(first, last == end ? last : last + 1);
}

void Trainer::write_sample() const {
  fs::create_directories(run_ / "samples");
  char name[32];
  std::snprintf(name, sizeof name, "step-%08lld.txt", static_cast<long long>(state_.step));
  write_file_atomically(run_ / "samples" / name, sample(config_.sample_length));
}

// A run with a time limit learns from its pace how many steps it will have, in time to lower the learning rate to zero
// by its end, and looks again every twentieth of the time. The rate itself never jumps: it falls along a new line from
// where it is.
void Trainer::fix_plan() {
  const double limit = config_.time_limit * 60, now = elapsed();
  if (config_.schedule != "wsd" || limit == 0 || state_.step < planned_step_ + 10 || now < planned_at_ + limit / 20)
    return;
  const double pace = (now - planned_at_) / static_cast<double>(state_.step - planned_step_);
  planned_at_ = now, planned_step_ = state_.step;
  if (now < limit * (1 - config_.decay)) return;
  int64_t total = state_.step + static_cast<int64_t>((limit - now) / pace);
  if (config_.steps > 0) total = std::min(total, config_.steps);
  const double left = plan_left(state_.plan, state_.step);
  state_.plan = {total, total + 1 - std::llround(static_cast<double>(total - state_.step) / left)};
  progress_.set_total(total);
  save();  // from here on the run is the same however often it is killed
}

void Trainer::save() {
  collect();
  metrics_->sync();
  events_->flush();
  state_.text = sampler_.state();
  state_.generator = default_generator().state();
  state_.seconds = elapsed();
  save_checkpoint(run_, *model_, *optimizer_, state_, config_.keep);
}

double Trainer::elapsed() const {
  return seconds_before_ + std::chrono::duration<double>(Clock::now() - started_).count();
}

bool Trainer::done() const {
  if (state_.plan.total > 0 && state_.step >= state_.plan.total) return true;
  return config_.time_limit > 0 && elapsed() >= config_.time_limit * 60;
}

// By steps or by time, whichever is nearer to the end.
double Trainer::fraction_done() const {
  double fraction = -1;
  if (state_.plan.total > 0) fraction = static_cast<double>(state_.step) / static_cast<double>(state_.plan.total);
  if (config_.time_limit > 0) fraction = std::max(fraction, elapsed() / (config_.time_limit * 60));
  return fraction;
}

double Trainer::seconds_left() const {
  double left = -1;
  if (state_.plan.total > 0) left = static_cast<double>(state_.plan.total - state_.step) * step_seconds_;
  if (config_.time_limit > 0) {
    const double time = config_.time_limit * 60 - elapsed();
    left = left < 0 ? time : std::min(left, time);
  }
  return left;
}

}  // namespace weft::lm

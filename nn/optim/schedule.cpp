#include <weft/autograd/autograd.h>
#include <weft/nn/optim/schedule.h>
#include <weft/ops/optim.h>

#include <algorithm>
#include <cmath>

namespace weft {

namespace {
double progress(int64_t step, int64_t total) {
  return std::clamp(static_cast<double>(step) / static_cast<double>(total), 0.0, 1.0);
}
}  // namespace

Schedule constant_schedule() {
  return [](int64_t) { return 1.0; };
}

Schedule with_warmup(int64_t warmup, Schedule after) {
  check(warmup >= 0, "with_warmup: warmup must not be negative, got ", warmup);
  return [warmup, after = std::move(after)](int64_t step) {
    return step < warmup ? static_cast<double>(step + 1) / static_cast<double>(warmup) : after(step - warmup);
  };
}

Schedule cosine_schedule(int64_t total, double floor) {
  check(total > 0, "cosine_schedule: total must be positive, got ", total);
  return [=](int64_t step) { return floor + (1 - floor) * 0.5 * (1 + std::cos(M_PI * progress(step, total))); };
}

Schedule linear_schedule(int64_t total, double floor) {
  check(total > 0, "linear_schedule: total must be positive, got ", total);
  return [=](int64_t step) { return 1 + (floor - 1) * progress(step, total); };
}

Schedule step_schedule(int64_t every, double gamma) {
  check(every > 0, "step_schedule: every must be positive, got ", every);
  return [=](int64_t step) { return std::pow(gamma, static_cast<double>(step / every)); };
}

Schedule inverse_sqrt_schedule(int64_t scale) {
  check(scale > 0, "inverse_sqrt_schedule: scale must be positive, got ", scale);
  return [=](int64_t step) { return 1 / std::sqrt(1 + static_cast<double>(step) / static_cast<double>(scale)); };
}

EMA::EMA(const Module& model, double decay) : params_(model.named_parameters()), decay_(decay) {
  check(decay >= 0 && decay < 1, "EMA: decay must be in [0, 1), got ", decay);
  NoGrad guard;
  for (auto& [name, p] : params_) averages_.push_back(p.clone());
}

void EMA::update() {
  NoGrad guard;
  Tensors now;
  for (auto& [name, p] : params_) now.push_back(p.detach());
  ema_(averages_, now, decay_);
}

void EMA::swap() {
  NoGrad guard;
  for (size_t i = 0; i < averages_.size(); ++i) {
    const Tensor before = params_[i].second.clone();
    params_[i].second.copy_(averages_[i]);
    averages_[i].copy_(before);
  }
}

NamedTensors EMA::state_dict() const {
  NamedTensors out;
  for (size_t i = 0; i < averages_.size(); ++i) out.emplace_back(params_[i].first, averages_[i]);
  return out;
}

void EMA::load_state_dict(const NamedTensors& state) {
  check(state.size() == averages_.size(), "EMA: load_state_dict: ", state.size(), " tensors for ", averages_.size(),
        " parameters");
  for (size_t i = 0; i < state.size(); ++i) {
    check(state[i].first == params_[i].first && state[i].second.shape() == averages_[i].shape(),
          "EMA: load_state_dict: expected ", params_[i].first, " ", averages_[i].shape(), ", got ", state[i].first, " ",
          state[i].second.shape());
  }
  NoGrad guard;
  for (size_t i = 0; i < state.size(); ++i) averages_[i].copy_(state[i].second.to(averages_[i].device()));
}

}  // namespace weft

#include <weft/nn/optim/schedule.h>
#include <weft/tensor/error.h>

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

}  // namespace weft

// Learning-rate schedules: a factor on the base rate as a function of the step.
#pragma once

#include <cstdint>
#include <functional>

namespace weft {

/// step (from 0) → factor on the learning rate. Use: optimizer.set_lr_scale(schedule(step)) before each step.
using Schedule = std::function<double(int64_t step)>;

Schedule constant_schedule();  ///< 1
/// (step + 1) / warmup until step reaches warmup, then what after says at step - warmup.
Schedule with_warmup(int64_t warmup, Schedule after);
/// From 1 to floor over total steps along half a cosine, then floor. Source: arXiv:1608.03983.
Schedule cosine_schedule(int64_t total, double floor = 0);
/// From 1 to floor over total steps along a line, then floor.
Schedule linear_schedule(int64_t total, double floor = 0);
/// gamma^(step / every), rounded down.
Schedule step_schedule(int64_t every, double gamma = 0.1);
/// 1/sqrt(1 + step/scale): the decay of the original transformer, after its warm-up.
Schedule inverse_sqrt_schedule(int64_t scale);

}  // namespace weft

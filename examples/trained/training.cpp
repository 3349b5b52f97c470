#include <weft/examples/trained/training.h>
#include <weft/nn/optim/optimizer.h>
#include <weft/nn/optim/schedule.h>
#include <weft/ops/random.h>
#include <weft/tensor/parallel.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>

namespace weft::examples {
namespace {

// What is no number at all passes: the option's own conversion names it.
CLI::Validator number_where(const std::function<bool(double)>& holds, const std::string& rule) {
  const auto problem = [holds, rule](const std::string& given) {
    char* end = nullptr;
    const double value = std::strtod(given.c_str(), &end);
    const bool is_number = end != given.c_str() && *end == '\0';
    return !is_number || holds(value) ? std::string() : "must be " + rule + ", not " + given;
  };
  return CLI::Validator(problem, "");
}

}  // namespace

CLI::Validator at_least(int64_t least) {
  return number_where([least](double value) { return value >= static_cast<double>(least); },
                      "at least " + std::to_string(least));
}

CLI::Validator above_zero() {
  return number_where([](double value) { return value > 0 && std::isfinite(value); }, "a number above 0");
}

void Training::add_to(CLI::App& app) {
  app.add_option("--steps", steps, "optimiser steps")->capture_default_str()->check(at_least(0));
  app.add_option("--batch", batch, "examples a step")->capture_default_str()->check(at_least(1));
  app.add_option("--lr", lr, "highest learning rate")->capture_default_str()->check(above_zero());
  app.add_option("--seed", seed, "of the weights and of everything drawn")->capture_default_str()->check(at_least(0));
  app.add_option("--threads", threads, "CPU threads; 0: all")->capture_default_str()->check(at_least(0));
  app.add_option("--goal", goal, "fail (exit status 1) below this share of right answers")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1.0));
}

void train(const Module& model, const Training& options, const std::function<Tensor()>& loss) {
  using Clock = std::chrono::steady_clock;
  std::printf("%lld parameters, %lld steps of %lld examples\n", static_cast<long long>(model.num_parameters()),
              static_cast<long long>(options.steps), static_cast<long long>(options.batch));
  const Tensors parameters = model.parameters();
  AdamW optimizer(parameters, {.lr = options.lr, .beta2 = 0.98, .weight_decay = 0.01});
  const int64_t warmup = std::max<int64_t>(1, options.steps / 20);
  const Schedule rate = with_warmup(warmup, cosine_schedule(std::max<int64_t>(1, options.steps - warmup)));
  const int64_t line_every = std::max<int64_t>(1, (options.steps + 19) / 20);
  const auto start = Clock::now();
  double sum = 0;  // of the losses since the last line
  for (int64_t step = 1, since = 1; step <= options.steps; ++step, ++since) {
    optimizer.zero_grad();
    const Tensor value = loss();
    value.backward();
    sum += value.item();
    check(std::isfinite(sum), "the loss of step ", step, " is not finite: try a lower --lr");
    clip_grad_norm_(parameters, 1.0);
    optimizer.set_lr_scale(rate(step - 1));
    optimizer.step();
    if (step % line_every && step != options.steps) continue;
    std::printf("step %5lld  loss %.4f  %.0f s\n", static_cast<long long>(step), sum / static_cast<double>(since),
                std::chrono::duration<double>(Clock::now() - start).count());
    std::fflush(stdout);
    sum = 0, since = 0;
  }
}

bool report(const char* what, int64_t right, int64_t of, double goal) {
  const double share = static_cast<double>(right) / static_cast<double>(of);
  std::printf("%s: %.2f %% (%lld of %lld)\n", what, 100 * share, static_cast<long long>(right),
              static_cast<long long>(of));
  if (share >= goal) return true;
  std::fflush(stdout);
  std::fprintf(stderr, "%s: below the goal of %g %%\n", what, 100 * goal);
  return false;
}

bool report(const char* what, const std::vector<std::string>& answers, const std::vector<std::string>& expected,
            double goal) {
  std::map<std::string, int64_t> errors;
  int64_t right = 0;
  for (size_t i = 0; i < answers.size(); ++i) {
    right += answers[i] == expected[i];
    if (answers[i] != expected[i]) ++errors[expected[i] + " as " + answers[i]];
  }
  std::vector<std::pair<int64_t, std::string>> sorted;
  for (const auto& [error, count] : errors) sorted.push_back({-count, error});
  std::sort(sorted.begin(), sorted.end());
  for (size_t i = 0; i < sorted.size() && i < 8; ++i)
    std::printf("  %s: %lld times\n", sorted[i].second.c_str(), static_cast<long long>(-sorted[i].first));
  return report(what, right, static_cast<int64_t>(answers.size()), goal);
}

int run_program(CLI::App& app, int argc, char** argv, const std::function<int()>& run) {
  try {
    app.parse(argc, argv);
    return run();
  } catch (const CLI::Success& e) {
    return app.exit(e);  // --help
  } catch (const CLI::ParseError& e) {
    std::fprintf(stderr, "%s: %s\n", app.get_name().c_str(), e.what());
    return 2;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s: %s\n", app.get_name().c_str(), e.what());
    return 1;
  }
}

}  // namespace weft::examples

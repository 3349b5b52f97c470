// The draws are checked against a second writing of Philox4x32-10, from the paper, one word at a time.
#include "support/sample.h"

#include <array>
#include <cmath>

namespace weft::test {

namespace {

// Word i of the stream of a seed.
uint32_t word(uint64_t seed, uint64_t i) {
  const uint64_t block = i / 4;
  std::array<uint32_t, 4> x{static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), 0, 0};
  std::array<uint32_t, 2> key{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  for (int round = 0; round < 10; ++round) {
    const uint64_t left = 0xD2511F53ull * x[0], right = 0xCD9E8D57ull * x[2];
    const auto hi = [](uint64_t v) { return static_cast<uint32_t>(v >> 32); };
    const auto lo = [](uint64_t v) { return static_cast<uint32_t>(v); };
    x = {hi(right) ^ x[1] ^ key[0], lo(right), hi(left) ^ x[3] ^ key[1], lo(left)};
    key = {key[0] + 0x9E3779B9u, key[1] + 0xBB67AE85u};
  }
  return x[i % 4];
}

constexpr uint64_t kSeed = 0x1234'5678'9abc'def0;

double uniform_at(int64_t i) {  // 53 bits of two words
  const uint64_t high = word(kSeed, static_cast<uint64_t>(2 * i)), low = word(kSeed, static_cast<uint64_t>(2 * i + 1));
  return std::ldexp(static_cast<double>(high >> 0), -32) + std::ldexp(static_cast<double>(low >> 11), -53);
}
double uniform24_at(int64_t i) {
  return std::ldexp(static_cast<double>(word(kSeed, static_cast<uint64_t>(i)) >> 8), -24);
}

double normal_at(int64_t i) {  // Box-Muller on pairs of words
  const auto first = static_cast<uint64_t>(i / 2 * 2);
  const double u = (word(kSeed, first) + 1.0) / 4294967296.0, v = word(kSeed, first + 1) / 4294967296.0;
  const double r = std::sqrt(-2 * std::log(u));
  return i % 2 ? r * std::sin(2 * M_PI * v) : r * std::cos(2 * M_PI * v);
}

template <class F>
auto with_generator(F f) {
  return [f](const Tensors& x) -> Tensors {
    Generator g(kSeed);
    return {f(x, g)};
  };
}

void add_draws(SampleList& l) {
  for (const Shape& s : {Shape{}, Shape{0, 3}, Shape{3, 7}, Shape{70001}}) {
    l.samples.push_back(
        {.op = "rand",
         .variant = concat("float64 ", s),
         .inputs = {},
         .call = with_generator([s](const Tensors&, Generator& g) { return rand(s, {.dtype = float64}, g); }),
         .reference = [s](const Tensors&) -> Tensors { return {make(s, uniform_at)}; },
         .order = 0});
    l.samples.push_back({.op = "rand",
                         .variant = concat("float32 ", s),
                         .inputs = {},
                         .call = with_generator([s](const Tensors&, Generator& g) { return rand(s, {}, g); }),
                         .reference = [s](const Tensors&) -> Tensors { return {make(s, uniform24_at)}; },
                         .order = 0});
    l.samples.push_back(
        {.op = "randn",
         .variant = concat(s),
         .inputs = {},
         .call = with_generator([s](const Tensors&, Generator& g) { return randn(s, {.dtype = float64}, g); }),
         .reference = [s](const Tensors&) -> Tensors { return {make(s, normal_at)}; },
         .order = 0});
    l.samples.push_back(
        {.op = "randint",
         .variant = concat(s),
         .inputs = {},
         .call = with_generator([s](const Tensors&, Generator& g) { return randint(-3, 11, s, {.dtype = int64}, g); }),
         .reference = [s](const Tensors&) -> Tensors {
           return {make(s, [](int64_t i) {
                     const uint64_t high = word(kSeed, static_cast<uint64_t>(2 * i));
                     const uint64_t v = (high << 32) | word(kSeed, static_cast<uint64_t>(2 * i + 1));
                     return static_cast<double>(v % 14) - 3;
                   }).to(int64)};
         },
         .order = 0});
  }
}

void add_dropout(SampleList& l, const char* variant, const Shape& shape, double p, bool training = true) {
  l.samples.push_back(
      {.op = "dropout",
       .variant = variant,
       .inputs = {values(shape, 1)},
       .call = with_generator([p, training](const Tensors& x, Generator& g) { return dropout(x[0], p, training, g); }),
       .reference = [p, training](const Tensors& x) -> Tensors {
         const auto v = x[0].to_vector<double>();
         return {make(x[0].shape(), [&](int64_t i) {
           const double value = v[static_cast<size_t>(i)];
           if (!training || p == 0) return value;
           return uniform24_at(i) >= static_cast<float>(p) ? value / (1 - p) : 0.0;
         })};
       }});
}

}  // namespace

void random_samples(SampleList& l) {
  add_draws(l);
  l.samples.push_back({.op = "bernoulli",
                       .variant = "probabilities from 0 to 1",
                       .inputs = {make({5, 7}, [](int64_t i) { return static_cast<double>(i) / 34; })},
                       .call = with_generator([](const Tensors& x, Generator& g) { return bernoulli(x[0], g); }),
                       .reference = [](const Tensors& x) -> Tensors {
                         const auto p = x[0].to_vector<double>();
                         return {make(x[0].shape(), [&](int64_t i) {
                           return uniform24_at(i) < static_cast<float>(p[static_cast<size_t>(i)]) ? 1.0 : 0.0;
                         })};
                       },
                       .order = 0});
  add_dropout(l, "a third", {5, 7}, 1.0 / 3);
  add_dropout(l, "larger than a chunk", {3, 30011}, 0.5);
  add_dropout(l, "everything", {4}, 1);
  add_dropout(l, "nothing", {4}, 0);
  add_dropout(l, "not training", {4}, 0.5, false);
  add_dropout(l, "none", {0, 3}, 0.5);
  const auto error = [&](const char* op, std::function<void()> call, const char* message) {
    l.errors.push_back({op, std::move(call), message});
  };
  error(
      "dropout", [] { dropout(zeros({2}), 1.5); }, "dropout: p must be in [0, 1], got 1.5");
  error(
      "dropout", [] { dropout(arange(2), 0.5); }, "dropout: expected a floating tensor, got int64");
  error(
      "bernoulli", [] { bernoulli(arange(2)); }, "bernoulli: expected floating probabilities, got int64");
  error(
      "randint", [] { randint(3, 3, {2}); }, "randint: nothing between 3 and 3");
  error(
      "rand", [] { rand({2}, {.dtype = int64}); }, "uniform_: expected a floating tensor, got int64");
}

}  // namespace weft::test

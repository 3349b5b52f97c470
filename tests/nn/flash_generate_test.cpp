// AutoregressiveWrapper: loss and sampling.
#include <doctest/doctest.h>
#include <weft/autograd/autograd.h>
#include <weft/nn/flash/autoregressive_wrapper.h>
#include <weft/nn/flash/flash_transformer.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/index.h>
#include <weft/ops/random.h>
#include <weft/ops/shape.h>

#include <cmath>

using namespace weft;
using namespace weft::flash;

namespace {

// Says that token t is followed by t + 1, modulo the vocabulary, with the given certainty.
class Counter : public LanguageModel {
 public:
  explicit Counter(int64_t n, double certainty = 50) : n_(n), certainty_(certainty) {}
  Tensor operator()(const Tensor& tokens, const Tensor&) const override {
    return one_hot(remainder(tokens + 1, n_), n_).to(float32) * certainty_;
  }
  using Module::operator();
  int64_t num_tokens() const override { return n_; }
  std::string name() const override { return "Counter"; }

 private:
  int64_t n_;
  double certainty_;
};

using Ids = std::vector<int64_t>;
Tensor ids(const Ids& values, int64_t rows) {
  return tensor(values, {rows, static_cast<int64_t>(values.size()) / rows});
}

}  // namespace

TEST_CASE("flash generate: continues every row, whatever the filter") {
  AutoregressiveWrapper model(std::make_shared<Counter>(10));
  for (double thres : {0.0, 0.5, 0.9, 1.0})
    for (double temperature : {0.0, 0.5, 1.0}) {
      const Tensor out = model.generate(ids({3, 4, 8, 9}, 2), 4, {.temperature = temperature, .filter_thres = thres});
      CHECK(out.shape() == Shape{2, 4});
      CHECK(out.to_vector<int64_t>() == Ids{5, 6, 7, 8, 0, 1, 2, 3});
    }
  CHECK(model.generate(ids({3}, 1), 0).shape() == Shape{1, 0});
}

TEST_CASE("flash generate: stops when every row has ended and pads what follows") {
  AutoregressiveWrapper model(std::make_shared<Counter>(10), -1);
  const Tensor start = ids({9, 3, 9, 6}, 2);  // eos in the prompt does not end a row
  CHECK(model.generate(start, 8, {.eos_token = 9, .temperature = 0}).to_vector<int64_t>() ==
        Ids{4, 5, 6, 7, 8, 9, 7, 8, 9, -1, -1, -1});
  // No row has ended by then but one.
  CHECK(model.generate(start, 4, {.eos_token = 9, .temperature = 0}).to_vector<int64_t>() ==
        Ids{4, 5, 6, 7, 7, 8, 9, -1});
  CHECK(model.generate(start, 2, {.eos_token = 2, .temperature = 0}).to_vector<int64_t>() == Ids{4, 5, 7, 8});
}

TEST_CASE("flash generate: rows may start at different lengths") {
  AutoregressiveWrapper counter(std::make_shared<Counter>(10));
  const Tensor start = ids({1, 2, 3, 5, 0, 0}, 2);
  CHECK(counter.generate(start, 3, {.temperature = 0, .start_lengths = tensor(Ids{3, 1})}).to_vector<int64_t>() ==
        Ids{4, 5, 6, 6, 7, 8});

  // The same as each row alone.
  manual_seed(7);
  AutoregressiveWrapper model(std::make_shared<FLASHTransformer>(FLASHTransformerConfig{
      .num_tokens = 13, .dim = 8, .depth = 2, .causal = true, .group_size = 3, .query_key_dim = 4}));
  const Tensor prompt = ids({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 2);
  const GenerateOptions greedy{.temperature = 0};
  const Tensor together = model.generate(prompt, 6, {.temperature = 0, .start_lengths = tensor(Ids{5, 2})});
  CHECK(together.select(0, 0).to_vector<int64_t>() ==
        model.generate(prompt.slice(0, 0, 1), 6, greedy).to_vector<int64_t>());
  CHECK(together.select(0, 1).to_vector<int64_t>() ==
        model.generate(prompt.slice(0, 1, 2).slice(1, 0, 2), 6, greedy).to_vector<int64_t>());
}

TEST_CASE("flash generate: one seed, one text; training mode is put back; tokens are handed out as they come") {
  AutoregressiveWrapper model(std::make_shared<Counter>(10, 1));
  Generator a(3), b(3), c(4);
  Ids seen;
  const auto keep = [&](const Tensor& t) { seen.push_back(t.item<int64_t>()); };
  const auto first =
      model.generate(ids({0}, 1), 40, {.filter_thres = 0, .generator = &a, .on_token = keep}).to_vector<int64_t>();
  CHECK(seen == first);
  CHECK(first == model.generate(ids({0}, 1), 40, {.filter_thres = 0, .generator = &b}).to_vector<int64_t>());
  CHECK(first != model.generate(ids({0}, 1), 40, {.filter_thres = 0, .generator = &c}).to_vector<int64_t>());
  CHECK(model.is_training());
  model.eval();
  model.generate(ids({0}, 1), 1);
  CHECK_FALSE(model.is_training());
}

TEST_CASE("flash generate: temperature and filter shape the draws") {
  // Two tokens of probability 2/3 and 1/3 after a filter that keeps two of four.
  const Tensor logits = log(tensor({0.4f, 0.2f, 0.15f, 0.25f})).reshape({1, 4});
  const auto kept = top_k(logits, 0.5).to_vector();
  CHECK(std::isinf(kept[1]));
  CHECK(std::isinf(kept[2]));
  CHECK(kept[0] == doctest::Approx(std::log(0.4)));
  CHECK(kept[3] == doctest::Approx(std::log(0.25)));
}

TEST_CASE("flash wrapper: the loss is the mean cross entropy of the next token") {
  AutoregressiveWrapper model(std::make_shared<Counter>(4, 1.5));
  const double hit = -std::log(std::exp(1.5) / (std::exp(1.5) + 3)), miss = -std::log(1 / (std::exp(1.5) + 3));
  CHECK(model(ids({0, 1, 2, 0}, 1)).item() == doctest::Approx((2 * hit + miss) / 3));
  CHECK_THROWS_WITH_AS(model(ids({0}, 1)),
                       "AutoregressiveWrapper: expected tokens [batch, length] of length 2 or more, got [1, 1]", Error);
}

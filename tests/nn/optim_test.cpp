#include <doctest/doctest.h>
#include <weft/nn/optim/ema.h>
#include <weft/nn/optim/optimizer.h>
#include <weft/nn/optim/schedule.h>
#include <weft/weft.h>

using namespace weft;

namespace {

struct Point : Module {
  Tensor p = register_parameter("p", tensor(std::vector<double>{1.0, -2.0, 0.5}));
  std::string name() const override { return "Point"; }
};

// Five steps on Σ (wᵢpᵢ)² / (step + 1).
template <class O>
void take_steps(Tensor p, O& optimizer, int from, int to) {
  const Tensor w = tensor(std::vector<double>{1, 2, 3});
  for (int i = from; i < to; ++i) {
    optimizer.zero_grad();
    div(sum(square(p * w)), i + 1).backward();
    optimizer.step();
  }
}

template <class O, class Options>
void check_steps(Options options, const std::vector<double>& want) {
  Point point;
  O optimizer(point.parameters(), options);
  take_steps(point.p, optimizer, 0, 5);
  const auto got = point.p.to_vector<double>();
  for (size_t i = 0; i < 3; ++i) CHECK(std::abs(got[i] - want[i]) < 1e-13);
}

}  // namespace

TEST_CASE("optim: five steps give what PyTorch 2.11 gives") {
  check_steps<SGD>(SGDOptions{.lr = 0.01}, {0.95507768664, -1.65795151872, 0.32287432268});
  check_steps<SGD>(SGDOptions{.lr = 0.01, .momentum = 0.9, .weight_decay = 0.1, .nesterov = true},
                   {0.811556098872896, -0.723214872273264, -0.0974786778904017});
  check_steps<SGD>(SGDOptions{.lr = 0.01, .momentum = 0.9, .dampening = 0.3},
                   {0.873731318125464, -1.03237718208307, -0.00579590312693204});
  check_steps<Adam>(AdamOptions{.lr = 0.1, .weight_decay = 0.1},
                    {0.569496378169501, -1.56580688696623, 0.094321853955197});
  check_steps<AdamW>(AdamWOptions{.lr = 0.1, .beta1 = 0.8, .beta2 = 0.95, .weight_decay = 0.1},
                     {0.551453672569354, -1.49297167620697, 0.0968258453238176});
}

TEST_CASE("optim: a saved and loaded optimiser goes on with the same bits") {
  Point a, b;
  AdamW one(a.parameters()), two(b.parameters());
  take_steps(a.p, one, 0, 5);
  take_steps(b.p, two, 0, 2);
  Point c;
  c.load_state_dict(b.state_dict());
  AdamW three(c.parameters());
  three.load_state_dict(two.state_dict());
  take_steps(c.p, three, 2, 5);
  CHECK(a.p.to_vector<double>() == c.p.to_vector<double>());
  NamedTensors bad = two.state_dict();
  bad.pop_back();
  CHECK_THROWS_WITH(three.load_state_dict(bad), "AdamW: load_state_dict: exp_avg_sq.0 is missing");
}

TEST_CASE("optim: clipping as PyTorch clips") {
  Tensor a = tensor(std::vector<double>{3, 4}).requires_grad_();
  a.set_grad(tensor(std::vector<double>{3, 4}));
  CHECK(clip_grad_norm_({a}, 2.0).item() == doctest::Approx(5));
  CHECK(a.grad().to_vector<double>()[0] == doctest::Approx(1.199999760000048).epsilon(1e-14));
  clip_grad_value_({a}, 1.5);
  CHECK(a.grad().to_vector<double>()[1] == 1.5);
}

TEST_CASE("optim: a clipped step is clipping and a step, and leaves the gradients") {
  auto check_same = [](auto&& make) {
    Point one, two;
    auto a = make(one.parameters()), b = make(two.parameters());
    for (int i = 0; i < 4; ++i) {
      for (Point* point : {&one, &two}) point->p.set_grad(mul(point->p.detach(), i == 2 ? 1e-3 : 5.0));
      const auto before = two.p.grad().to_vector<double>();
      const double norm = clip_grad_norm_(one.parameters(), 0.3).item();
      a->step();
      CHECK(b->step_clipped(0.3).item() == norm);
      CHECK(two.p.grad().to_vector<double>() == before);
      const auto x = one.p.to_vector<double>(), y = two.p.to_vector<double>();
      for (size_t k = 0; k < 3; ++k) CHECK(std::abs(x[k] - y[k]) < 1e-14);
    }
    CHECK_THROWS_WITH_AS(b->step_clipped(-1), doctest::Contains("max_norm must not be negative"), Error);
  };
  check_same([](const Tensors& p) { return std::make_unique<AdamW>(p, AdamWOptions{.lr = 0.1}); });
  check_same([](const Tensors& p) { return std::make_unique<Adam>(p, AdamOptions{.lr = 0.1, .weight_decay = 0.1}); });
  check_same([](const Tensors& p) { return std::make_unique<SGD>(p, SGDOptions{.lr = 0.1, .momentum = 0.9}); });
}

TEST_CASE("optim: groups have rates of their own and wrong settings are errors") {
  Point a, b;
  SGD optimizer(std::vector<ParamGroup>{{.params = a.parameters(), .lr = 0.0}, {.params = b.parameters()}},
                {.lr = 0.1});
  (sum(a.p) + sum(b.p)).backward();
  optimizer.step();
  CHECK(a.p.to_vector<double>()[0] == 1.0);
  CHECK(b.p.to_vector<double>()[0] == doctest::Approx(0.9));
  CHECK_THROWS_WITH(SGD(Tensors{}), "SGD: got no parameters");
  CHECK_THROWS_WITH(Adam(a.parameters(), {.lr = -1.0}), "Adam: lr and weight_decay must not be negative, got -1 and 0");
}

TEST_CASE("schedules and averages") {
  const Schedule s = with_warmup(4, cosine_schedule(10, 0.1));
  CHECK(s(0) == doctest::Approx(0.25));
  CHECK(s(3) == doctest::Approx(1));
  CHECK(s(4) == doctest::Approx(1));
  CHECK(s(9) == doctest::Approx(0.55));
  CHECK(s(1000) == doctest::Approx(0.1));
  CHECK(constant_schedule()(7) == 1);
  const Schedule line = linear_schedule(8, 0.2);
  for (const auto& [step, factor] : {std::pair{0, 1.0}, {4, 0.6}, {8, 0.2}, {9, 0.2}})
    CHECK(line(step) == doctest::Approx(factor));
  const Schedule stairs = step_schedule(3, 0.5);
  for (const auto& [step, factor] : {std::pair{0, 1.0}, {2, 1.0}, {3, 0.5}, {8, 0.25}})
    CHECK(stairs(step) == doctest::Approx(factor));
  const Schedule root = inverse_sqrt_schedule(4);
  for (const auto& [step, factor] : {std::pair{0, 1.0}, {12, 0.5}, {60, 0.25}})
    CHECK(root(step) == doctest::Approx(factor));
  CHECK_THROWS_WITH(with_warmup(-1, s), "with_warmup: warmup must not be negative, got -1");
  CHECK_THROWS_WITH(linear_schedule(0), "linear_schedule: total must be positive, got 0");
  CHECK_THROWS_WITH(step_schedule(0), "step_schedule: every must be positive, got 0");
  CHECK_THROWS_WITH(inverse_sqrt_schedule(0), "inverse_sqrt_schedule: scale must be positive, got 0");

  Point model;
  EMA ema(model, 0.5);
  {
    NoGrad guard;
    model.p.fill_(3);
  }
  ema.update();
  ema.swap();
  CHECK(model.p.to_vector<double>()[0] == 2);  // (1 + 3) / 2
  ema.swap();
  CHECK(model.p.to_vector<double>()[0] == 3);
  EMA other(Point{}, 0.5);
  other.load_state_dict(ema.state_dict());
  CHECK(other.state_dict()[0].first == "p");
  CHECK(other.state_dict()[0].second.to_vector<double>() == ema.state_dict()[0].second.to_vector<double>());
  CHECK_THROWS_WITH(other.load_state_dict({{"q", zeros({3}, {.dtype = float64})}}),
                    "EMA: load_state_dict: expected p [3], got q [3]");
  CHECK_THROWS_WITH(other.load_state_dict({}), "EMA: load_state_dict: 0 tensors for 1 parameters");
  CHECK_THROWS_WITH(EMA(model, 1), "EMA: decay must be in [0, 1), got 1");
}

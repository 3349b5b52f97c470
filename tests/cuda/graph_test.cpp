// A captured step against the same program run call by call.
#include "cuda/gpu.h"

#include <weft/nn/linear.h>
#include <weft/ops/index.h>
#include <weft/ops/loss.h>

using namespace weft;
using namespace weft::test;

namespace {

// Two layers with dropout between, AdamW with clipping.
struct Training {
  explicit Training(bool momentum = false) : fused(momentum) {
    manual_seed(5);
    first.emplace(12, 33), second.emplace(33, 7);
    params = first->parameters();
    for (const Tensor& p : second->parameters()) params.push_back(p);
    if (momentum)
      optimizer = std::make_unique<SGD>(params, SGDOptions{.lr = 0.05, .momentum = 0.9});
    else
      optimizer = std::make_unique<AdamW>(params, AdamWOptions{.lr = 1e-2});
    x = zeros({16, 12});
  }
  void step() {
    optimizer->zero_grad();
    const Tensor h = dropout(relu(first->forward(x)), 0.4);
    loss = mean(square(second->forward(h)));
    loss.backward();
    if (fused) {
      norm = optimizer->step_clipped(0.5);
    } else {
      norm = clip_grad_norm_(params, 0.5);
      optimizer->step();
    }
  }
  bool fused;  // clipping and the step in one
  std::optional<Linear> first, second;
  Tensors params;
  std::unique_ptr<Optimizer> optimizer;
  Tensor x, loss, norm;
};

Tensor batch(int step) {
  Generator g(static_cast<uint64_t>(100 + step));
  return randn({16, 12}, {}, g);
}

// Everything that a step leaves, compared to the bit.
void check_same(const Training& a, const Training& b, int step) {
  CAPTURE(step);
  CHECK(different_bits(a.loss, b.loss) == 0);
  CHECK(different_bits(a.norm, b.norm) == 0);
  for (size_t i = 0; i < a.params.size(); ++i) {
    CAPTURE(i);
    CHECK(different_bits(a.params[i], b.params[i]) == 0);
    CHECK(different_bits(a.params[i].grad(), b.params[i].grad()) == 0);
  }
  const NamedTensors p = a.optimizer->state_dict(), q = b.optimizer->state_dict();
  REQUIRE(p.size() == q.size());
  for (size_t i = 0; i < p.size(); ++i) {
    CAPTURE(p[i].first);
    CHECK(different_bits(p[i].second, q[i].second) == 0);
  }
}

}  // namespace

TEST_CASE("graph: a captured training step is the step, to the bit") {
  NEEDS_GPU();
  for (const bool momentum : {false, true}) {
    Training plain(momentum), captured(momentum);
    cuda::Graph graph([&] { captured.step(); });
    manual_seed(11);
    Generator::State plain_at = default_generator().state(), captured_at = plain_at;
    for (int step = 0; step < 8; ++step) {
      const double scale = 1 - 0.1 * step;
      plain.x.copy_(batch(step)), captured.x.copy_(batch(step));
      plain.optimizer->set_lr_scale(scale), captured.optimizer->set_lr_scale(scale);
      default_generator().set_state(plain_at);
      plain.step();
      plain_at = default_generator().state();
      default_generator().set_state(captured_at);
      graph.run();
      captured_at = default_generator().state();
      CHECK(plain_at == captured_at);
      CHECK(graph.captured() == (step >= 2));
      check_same(plain, captured, step);
    }
    CHECK(captured.optimizer->steps() == 8);
    CHECK(graph.nodes() > 5);
    CHECK(graph.memory() > 0);
  }
}

TEST_CASE("graph: two runs from one seed give the same bits; loading state goes on in place") {
  NEEDS_GPU();
  Training first, again;
  NamedTensors saved;
  for (Training* t : {&first, &again}) {
    manual_seed(3);
    cuda::Graph graph([t] { t->step(); });
    for (int step = 0; step < 6; ++step) {
      t->x.copy_(batch(step));
      graph.run();
    }
  }
  check_same(first, again, 6);

  // From a saved state, the captured step trains as the plain one does.
  Training plain;
  cuda::Graph graph([&] { again.step(); }, {.warmup = 1});
  graph.run(), graph.run(), graph.run();
  for (const auto& [name, t] : first.optimizer->state_dict()) saved.emplace_back(name, t.clone());
  for (Training* t : {&plain, &again}) {
    t->optimizer->load_state_dict(saved);
    NoGrad guard;
    for (size_t i = 0; i < t->params.size(); ++i) t->params[i].copy_(first.params[i]);
  }
  manual_seed(21);
  plain.x.copy_(batch(1)), plain.step();
  manual_seed(21);
  again.x.copy_(batch(1)), graph.run();
  check_same(plain, again, 7);
}

TEST_CASE("graph: every kind of draw is fresh in each replay, and the host's generators move on") {
  NEEDS_GPU();
  Generator own(77);
  Tensor results[6];
  auto draw = [&] {
    results[0] = rand({1000});
    results[1] = randn({1001}, {.dtype = float64});
    results[2] = randint(0, 1000, {77});
    results[3] = bernoulli(full({100}, 0.5));
    results[4] = dropout(ones({999}), 0.5);
    results[5] = rand({50}, {}, own);
  };
  cuda::Graph graph(draw, {.warmup = 0, .generators = {&own}});
  std::vector<Tensor> replayed, want;
  manual_seed(9), own.manual_seed(77);
  for (int i = 0; i < 4; ++i) {
    if (i == 3) manual_seed(123);
    graph.run();
    for (const Tensor& r : results) replayed.push_back(r.clone());
  }
  const Generator::State end = default_generator().state(), own_end = own.state();
  manual_seed(9), own.manual_seed(77);
  for (int i = 0; i < 4; ++i) {
    if (i == 3) manual_seed(123);
    draw();
    for (const Tensor& r : results) want.push_back(r.clone());
  }
  CHECK(end == default_generator().state());
  CHECK(own_end == own.state());
  for (size_t i = 0; i < want.size(); ++i) {
    CAPTURE(i);
    CHECK(different_bits(replayed[i], want[i]) == 0);
  }
  CHECK(different_bits(replayed[0], replayed[6]) > 900);

  // The backward pass of a forward one outside draws what that drew, each time.
  const Tensor x = ones({500}).requires_grad_();
  const Tensor dropped = dropout(x, 0.5);
  cuda::Graph backward([&] { results[0] = grad({dropped}, {x}, {ones({500})}, {.retain_graph = true})[0]; });
  for (int i = 0; i < 4; ++i) {
    backward.run();
    CHECK(different_bits(results[0], dropped) == 0);
  }

  Generator stranger(4);
  cuda::Graph wrong([&] { results[0] = rand({3}, {}, stranger); }, {.warmup = 0});
  CHECK(message_of([&] { wrong.run(); }).find("draws from a generator that the graph does not know") !=
        std::string::npos);
  CHECK(stranger.state().seed == 4);
}

TEST_CASE("graph: a step that waits cannot be captured, and nothing is broken by trying") {
  NEEDS_GPU();
  const Tensor x = randn({64});
  Tensor y;
  double value = 0;
  const struct {
    const char* op;
    std::function<void()> step;
  } wrong[] = {
      {"copy to the host", [&] { value = add(x, 1).sum().item(); }},
      {"copy to the host", [&] { y = mul(x, 2).cpu(); }},
      {"nonzero", [&] { y = nonzero(gt(x, 0)); }},
      {"synchronize", [&] { y = add(x, 1), cuda::synchronize(); }},
  };
  for (const auto& w : wrong) {
    CAPTURE(w.op);
    const size_t in_use = memory_stats(Device::cuda()).in_use;
    {
      cuda::Graph graph(w.step, {.warmup = 1});
      graph.run();
      const std::string message = message_of([&] { graph.run(); });
      CHECK(message.find("waits for the device, which a step that is being captured cannot") != std::string::npos);
      CHECK(!graph.captured());
      y = Tensor();
    }
    CHECK(sum(ones({10})).item() == 10);
    cuda::synchronize();
    CHECK(memory_stats(Device::cuda()).in_use == in_use);
    cuda::Graph after([&] { y = add(x, 1); }, {.warmup = 0});
    after.run(), after.run();
    CHECK(different_bits(y, add(x, 1)) == 0);
    y = Tensor();
  }
  cuda::Graph thrower([&] { y = add(x, ones({63})); }, {.warmup = 0});
  CHECK_THROWS_AS(thrower.run(), Error);
  CHECK(sum(ones({10})).item() == 10);
}

TEST_CASE("graph: its memory is reused inside, counted, and outlives it in a tensor") {
  NEEDS_GPU();
  cuda::synchronize();
  Tensor x = ones({1 << 20}), y;  // 4 MiB
  const size_t before = memory_stats(Device::cuda()).in_use;
  {
    cuda::Graph graph(
        [&] {
          y = x;
          for (int i = 0; i < 50; ++i) y = add(y, 1);
        },
        {.warmup = 0});
    graph.run();
    CHECK(graph.memory() <= size_t{32} << 20);  // 50 results of 4 MiB in the room of a few
    CHECK(memory_stats(Device::cuda()).in_use == before + graph.memory());
    for (int i = 0; i < 3; ++i) {
      x.fill_(i);
      graph.run();
      CHECK(y.sum().item() == 1.0 * (50 + i) * (1 << 20));
    }
    graph.reset();
    CHECK(!graph.captured());
    x.fill_(10);
    graph.run();
    CHECK(y.sum().item() == double{60} * (1 << 20));
  }
  CHECK(y.sum().item() == double{60} * (1 << 20));
  CHECK(memory_stats(Device::cuda()).in_use > before);
  y = Tensor();
  CHECK(memory_stats(Device::cuda()).in_use == before);
}

TEST_CASE("graph: page-locked inputs are read in each replay, constants keep their bytes, faults come out") {
  NEEDS_GPU();
  Tensor page = pin_memory(zeros({256}, {.device = Device::cpu()}));
  Tensor there = zeros({256}), y, rows = zeros({2}, {.dtype = int64});
  cuda::Graph graph(
      [&] {
        there.copy_(page, true);
        y = index_select(add(there, tensor(std::vector<float>(256, 5))), 0, rows);
      },
      {.warmup = 1});
  for (int i = 0; i < 5; ++i) {
    page.fill_(i);
    graph.run();
    CHECK(y.sum().item() == 2 * (i + 5));
  }
  rows.fill_(300);
  graph.run();
  CHECK(message_of([&] { y.sum().item(); }).find("300") != std::string::npos);
  rows.fill_(3);
  graph.run();
  CHECK(y.sum().item() == 2 * (4 + 5));
}

TEST_CASE("graph: replays take their place among other work, on any stream") {
  NEEDS_GPU();
  Tensor x = zeros({1 << 16});
  cuda::Graph graph([&] { x.copy_(add(x, 1)); }, {.warmup = 1});
  cuda::Stream side;
  cuda::Event done;
  for (int i = 0; i < 10; ++i) {
    if (i % 2) {
      cuda::StreamScope scope(side);
      graph.run();
      done.record();
    } else {
      graph.run();
    }
    if (i % 2) done.stream_wait();
    x.copy_(mul(x, 2));
  }
  double want = 0;
  for (int i = 0; i < 10; ++i) want = (want + 1) * 2;
  CHECK(x.sum().item() == want * (1 << 16));
}

TEST_CASE("graph: a side stream inside a step is captured with it") {
  NEEDS_GPU();
  const Tensor x = randn({1000});
  cuda::Stream side;
  cuda::Event done;
  Tensor a, b, y;
  cuda::Graph graph([&] {
    {
      cuda::StreamScope scope(side);
      a = mul(x, 3);
      done.record();
    }
    b = mul(x, 4);
    done.stream_wait();
    y = add(a, b);
  });
  for (int i = 0; i < 5; ++i) {
    graph.run();
    CHECK(different_bits(y, add(mul(x, 3), mul(x, 4))) == 0);
  }
  cuda::Graph torn(
      [&] {
        cuda::StreamScope scope(side);
        a = mul(x, 3);
      },
      {.warmup = 0});
  CHECK_THROWS_AS(torn.run(), Error);  // nobody waits for the side stream
  CHECK(sum(ones({10})).item() == 10);
}

TEST_CASE("graph: an optimiser's state must be there before the capture") {
  NEEDS_GPU();
  Training t;
  cuda::Graph graph([&] { t.step(); }, {.warmup = 0});
  const std::string message = message_of([&] { graph.run(); });
  CHECK(message.find("AdamW: the state of a parameter would start anew in every replay") == 0);
}

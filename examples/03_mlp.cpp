// A multi-layer perceptron that learns two intertwined spirals.
#include <weft/weft.h>

#include <cmath>
#include <cstdio>

using namespace weft;

struct MLP : Module {
  Linear in{2, 64}, middle{64, 64}, out{64, 2};

  MLP() {
    register_module("in", in);
    register_module("middle", middle);
    register_module("out", out);
  }
  Tensor forward(const Tensor& x) const override {  // x: [n, 2] → [n, 2]
    return out(middle(in(x, Activation::gelu), Activation::gelu));
  }
  std::string name() const override { return "MLP"; }
};

// n points on each of two spirals, and which spiral they are on.
void spirals(int64_t n, Tensor& points, Tensor& labels) {
  std::vector<float> xy;
  std::vector<int64_t> which;
  for (int64_t i = 0; i < 2 * n; ++i) {
    const double t = 3 * M_PI * static_cast<double>(i / 2 + 1) / static_cast<double>(n), turn = i % 2 ? M_PI : 0;
    xy.push_back(static_cast<float>(t / 5 * std::cos(t + turn)));
    xy.push_back(static_cast<float>(t / 5 * std::sin(t + turn)));
    which.push_back(i % 2);
  }
  points = tensor(xy, {2 * n, 2});
  labels = tensor(which);
}

int main() {
  manual_seed(1);
  Tensor points, labels;
  spirals(200, points, labels);

  MLP model;
  std::printf("%s\n%lld parameters\n", model.to_string().c_str(), static_cast<long long>(model.num_parameters()));
  AdamW optimizer(model.parameters(), {.lr = 1e-2});
  const Schedule schedule = with_warmup(20, cosine_schedule(400));
  double accuracy = 0;
  for (int step = 0; step <= 400; ++step) {
    Tensor logits = model(points);
    Tensor loss = cross_entropy(logits, labels);
    optimizer.zero_grad();
    loss.backward();
    clip_grad_norm_(model.parameters(), 1.0);
    optimizer.set_lr_scale(schedule(step));
    optimizer.step();
    accuracy = mean(eq(argmax(logits, -1), labels).to(float32)).item();
    if (step % 100 == 0) std::printf("step %3d  loss %.4f  accuracy %.3f\n", step, loss.item(), accuracy);
  }
  return accuracy > 0.98 ? 0 : 1;
}

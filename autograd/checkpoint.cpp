#include <weft/autograd/autograd.h>
#include <weft/autograd/node.h>
#include <weft/ops/create.h>
#include <weft/ops/matmul.h>
#include <weft/ops/random.h>

namespace weft {

namespace {

// Sets this thread's default generator to a state for a scope.
class GeneratorAt {
 public:
  explicit GeneratorAt(Generator::State state) : before_(default_generator().state()) {
    default_generator().set_state(state);
  }
  ~GeneratorAt() { default_generator().set_state(before_); }
  GeneratorAt(const GeneratorAt&) = delete;
  GeneratorAt& operator=(const GeneratorAt&) = delete;

 private:
  Generator::State before_;
};

}  // namespace

Tensor checkpoint(const std::function<Tensor(const Tensors&)>& f, const Tensors& inputs) {
  const auto generator_state = default_generator().state();
  const bool autocast = Autocast::active();
  const DType autocast_dtype = Autocast::dtype();
  Tensor out;
  {
    NoGrad guard;
    out = f(inputs);
  }
  if (!grad_enabled()) return out;
  // Parameters inside f are not among the inputs, so the result is recorded even where no input needs a gradient: an
  // anchor stands for them.
  Tensor anchor = zeros({}, {.requires_grad = true});
  gradient_node(anchor)->anchor = true;
  Tensors recorded = inputs;
  recorded.push_back(anchor);
  return record("checkpoint", out.detach(), recorded, [=](const Tensor& dy) -> Grads {
    check(!grad_enabled(), "checkpoint: has no second derivative; call without create_graph");
    Tensors fresh;
    for (const Tensor& x : inputs) {
      fresh.push_back(!x.defined() ? x : x.detach());
      if (x.defined() && x.requires_grad()) fresh.back().requires_grad_();
    }
    const uint64_t since = next_node_id();
    Tensor y;
    {
      EnableGrad guard;
      GeneratorAt repeat(generator_state);
      Autocast scope(autocast ? autocast_dtype : bfloat16, autocast);
      y = f(fresh);
    }
    check(y.shape() == dy.shape(), "checkpoint: the function gave ", dy.shape(), " first and ", y.shape(),
          " when run again");
    Grads g(inputs.size());
    if (y.requires_grad()) g = backward_inside(y, dy, fresh, since);
    g.emplace_back();  // of the anchor
    return g;
  });
}

}  // namespace weft

// Gradients: backward, higher orders, a function of your own, and a proof that its gradient is right.
#include <weft/autograd/gradcheck.h>
#include <weft/weft.h>

#include <cstdio>

using namespace weft;

// x ↦ x³ with a backward written by hand. The gradient is made of ops, so it can be differentiated again.
Tensor cube(const Tensor& x) {
  return record("cube", (x * x * x).detach(), {x}, [x](const Tensor& dy) -> Grads { return {dy * 3 * square(x)}; });
}

int main() {
  Tensor x = tensor({2.0f}).requires_grad_();
  Tensor y = x * x;
  Tensor z = y * y + y;  // y is used twice: its gradient is the sum over both uses
  z.backward();
  std::printf("d(x⁴ + x²)/dx at 2 = %g (4·8 + 4 = 36)\n", x.grad().item());

  // Second derivative: the gradient is itself a recorded computation.
  Tensor first = grad({cube(x)}, {x}, {}, {.create_graph = true})[0];
  Tensor second = grad({first}, {x})[0];
  std::printf("cube: first derivative %g, second %g\n", first.item(), second.item());

  // Analytic against numeric, in float64, element by element; an error names the element.
  Tensor p = randn({3, 2}, {.dtype = float64, .requires_grad = true});
  gradcheck([](const Tensors& in) { return cube(in[0]); }, {p});
  gradgradcheck([](const Tensors& in) { return cube(in[0]); }, {p});
  std::printf("gradcheck and gradgradcheck passed\n");

  // The graph, to look at with Graphviz: ./02_autograd | tail -n +5 | dot -Tsvg > graph.svg
  Tensor loss = mean(square(cube(x) - 1));
  std::printf("%s", to_dot({loss}).c_str());
}

// A program outside of weft that trains with it.
#include <weft/weft.h>
#ifdef WEFT_CUDA
#include <weft/cuda/graph.h>
#endif

#include <cstdio>

int main() {
  using namespace weft;
#ifdef WEFT_CUDA
  std::printf("%d GPUs\n", cuda::device_count());
#endif
  manual_seed(0);
  Sequential model(std::make_shared<Linear>(2, 32), std::make_shared<GELU>(), std::make_shared<Linear>(32, 1));
  AdamW optimizer(model.parameters(), {.lr = 1e-2});
  const Tensor x = rand({256, 2}), y = sum(square(x), 1, keepdim);
  double loss_now = 0;
  for (int step = 0; step < 300; ++step) {
    const Tensor loss = mse_loss(model(x), y);
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
    loss_now = loss.item();
  }
  std::printf("loss %.6f\n", loss_now);
  return loss_now < 1e-3 ? 0 : 1;
}

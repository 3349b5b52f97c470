// Tensors: shapes, views that share memory, broadcasting, printing.
#include <weft/weft.h>

#include <cstdio>

using namespace weft;

int main() {
  Tensor a = arange(6).to(float32).reshape({2, 3});
  std::printf("a = %s\n", to_string(a).c_str());

  // A view has the same memory under another shape; nothing is copied.
  Tensor column = a.select(1, 0), turned = a.t();
  std::printf("first column %s, transposed strides %s\n", to_string(column).c_str(), concat(turned.strides()).c_str());
  column.fill_(10);
  std::printf("after filling the column, a = %s\n", to_string(a).c_str());

  // Shapes are lined up from the right; sizes of 1 repeat.
  Tensor row = tensor({1.0f, 2.0f, 3.0f});
  std::printf("a * row = %s\n", to_string(a * row).c_str());
  std::printf("mean of each row: %s\n", to_string(mean(a, 1)).c_str());
  std::printf("a · aᵀ = %s\n", to_string(matmul(a, a.t())).c_str());

  // What cannot work is an exception that says why.
  try {
    a + tensor({1.0f, 2.0f});
  } catch (const Error& e) {
    std::printf("error: %s\n", e.what());
  }
}

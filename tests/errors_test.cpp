// Ten wrong uses, each with its exact message; and running out of memory, after which the program goes on.
#include <doctest/doctest.h>
#include <weft/ops/kernel.h>
#include <weft/weft.h>

#include <thread>

using namespace weft;

TEST_CASE("errors: ten wrong uses of the API say what is wrong") {
  const Tensor x = zeros({2, 3}), w = zeros({4, 5});
  SUBCASE("shapes that do not multiply") {
    CHECK_THROWS_WITH(matmul(x, w), "matmul: inner sizes differ: [2, 3] × [4, 5]");
  }
  SUBCASE("shapes that do not broadcast") {
    CHECK_THROWS_WITH(x + w, "add: shapes do not broadcast: [2, 3] and [4, 5]");
  }
  SUBCASE("backward of something that is no scalar") {
    const Tensor v = zeros({2, 3}, {.requires_grad = true});
    CHECK_THROWS_WITH((v * 2.0).backward(),
                      "backward: a gradient can be left out only for a scalar; the output has shape [2, 3]");
  }
  SUBCASE("backward of what depends on no variable") {
    CHECK_THROWS_WITH(x.sum().backward(),
                      "backward: the output of shape [] does not require a gradient: no input of it does");
  }
  SUBCASE("an integer variable") {
    CHECK_THROWS_WITH(arange(3).requires_grad_(),
                      "requires_grad_: only floating tensors have gradients, this one is int64");
  }
  SUBCASE("a dimension out of range") { CHECK_THROWS_WITH(sum(x, 2), "sum: dim 2 is out of range for 2 dimensions"); }
  SUBCASE("a reshape that loses elements") {
    CHECK_THROWS_WITH(x.reshape({4, 2}), "reshape: cannot make [4, 2] from [2, 3]");
  }
  SUBCASE("the wrong element type for memory") {
    CHECK_THROWS_WITH(x.data<double>(), "data: the tensor is float32, asked for float64");
  }
  SUBCASE("item() of many") { CHECK_THROWS_WITH(x.item(), "item: expected one element, got shape [2, 3]"); }
  SUBCASE("a tensor that is none") {
    CHECK_THROWS_WITH(Tensor().shape(), "undefined tensor: expected a tensor, got none");
  }
  SUBCASE("a mask that is not boolean") {
    CHECK_THROWS_WITH(where(x, x, x), "where: the condition must be bool, got float32");
  }
  SUBCASE("an unknown device") {
    CHECK_THROWS_WITH(device_from_name("gpu"), "unknown device 'gpu': expected cpu, cuda or cuda:N");
  }
}

TEST_CASE("default device: for a scope, for one thread, and never one that is not there") {
  const Device before = default_device();
  {
    const DefaultDevice host(Device::cpu());
    CHECK(zeros({2}).device() == Device::cpu());
    CHECK(arange(3).device() == Device::cpu());
    CHECK(empty({2}).device() == Device::cpu());
  }
  CHECK(default_device() == before);
  std::thread([] { CHECK(default_device() == Device::cpu()); }).join();
#ifndef WEFT_CUDA
  const char* message = "this build of weft has no CUDA: configure with the preset 'cuda' (-DWEFT_CUDA=ON)";
  CHECK_THROWS_WITH_AS(set_default_device(Device::cuda()), message, Error);
  CHECK_THROWS_WITH_AS(pin_memory(zeros({2})), message, Error);
#else
  CHECK_THROWS_AS(set_default_device(Device::cuda(99)), Error);
#endif
  CHECK(default_device() == before);
}

TEST_CASE("errors: where a device fails, the message tells the kernel and the shapes") {
  void (*const kernel)(const Tensor&, const Tensor&, int64_t, Tensor&) = [](const Tensor&, const Tensor&, int64_t n,
                                                                            Tensor&) {
    if (n == 3) throw DeviceError("softmax: CUDA error: invalid argument");
    if (n == 4) throw Error("softmax: another");
  };
  const Tensor x = zeros({2, 3});
  Tensor y = zeros({4}, {.dtype = int64});
  CHECK_THROWS_WITH_AS(detail::on_device("softmax", kernel, x, Tensor(), 3, y),
                       "softmax: CUDA error: invalid argument; the kernel softmax was given float32 [2, 3] int64 [4]",
                       DeviceError);
  CHECK_THROWS_WITH(detail::on_device("softmax", kernel, x, Tensor(), 4, y), "softmax: another");
  CHECK_NOTHROW(detail::on_device("softmax", kernel, x, Tensor(), 5, y));
}

TEST_CASE("errors: out of memory is an exception, and the program goes on") {
  const DefaultDevice host(Device::cpu());  // the GPU's: tests/cuda
  const size_t limit = memory_stats().in_use + (size_t{64} << 20);
  set_memory_limit(limit);
  {
    const Tensor fits = zeros({1 << 20});
    CHECK_THROWS_AS(zeros({1 << 30}), OutOfMemory);
    CHECK_THROWS_AS(zeros({1 << 14, 1 << 14}) + 1.0, OutOfMemory);
    CHECK((fits + 1.0).sum().item() == 1 << 20);
  }
  set_memory_limit(0);
  CHECK_THROWS_AS(empty({int64_t{1} << 52}), OutOfMemory);  // more than any machine's address space
  CHECK_THROWS_WITH(empty({int64_t{1} << 40, int64_t{1} << 40}),
                    "shape: [1099511627776, 1099511627776] has too many elements");
  CHECK_THROWS_WITH(empty({int64_t{1} << 60}), "empty: shape [1152921504606846976] has too many elements");
  CHECK((ones({4}) * 2.0).sum().item() == 8);
}

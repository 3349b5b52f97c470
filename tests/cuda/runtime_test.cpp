// Memory, streams, events, page-locked copies, faults.
#include "cuda/gpu.h"

#include <weft/ops/index.h>
#include <weft/ops/matmul.h>
#include <weft/ops/optim.h>

#include "support/temporary_folder.h"

using namespace weft;
using namespace weft::test;

TEST_CASE("cuda: memory is counted, and comes back") {
  NEEDS_GPU();
  cuda::synchronize();
  const MemoryStats before = memory_stats(Device::cuda());
  reset_peak_memory(Device::cuda());
  {
    const Tensor x = empty({1 << 20});
    const MemoryStats held = memory_stats(Device::cuda());
    CHECK(held.in_use == before.in_use + (size_t{4} << 20));
    CHECK(held.allocations == before.allocations + 1);
  }
  const MemoryStats after = memory_stats(Device::cuda());
  CHECK(after.in_use == before.in_use);
  CHECK(after.peak == before.in_use + (size_t{4} << 20));
  CHECK(after.cached >= (size_t{4} << 20));
  empty_cache(Device::cuda());
  CHECK(memory_stats(Device::cuda()).cached < after.cached + (size_t{32} << 20));
}

TEST_CASE("cuda: out of memory is an exception, and the program goes on") {
  NEEDS_GPU();
  const Tensor x = ones({1000});
  for (const int64_t bytes : {int64_t{1} << 50, int64_t{1} << 40}) {
    CHECK_THROWS_AS(empty({bytes}, uint8), OutOfMemory);
    CHECK(sum(add(x, x)).item() == 2000);
  }
  // Memory that is only cached is not in the way of a request for nearly all there is.
  const size_t in_use = memory_stats(Device::cuda()).in_use;
  std::vector<Tensor> held;
  try {
    for (;;) held.push_back(empty({int64_t{4} << 30}, uint8));
  } catch (const OutOfMemory& e) {
    CHECK(std::string(e.what()).find("cuda:0: out of memory: wanted 4294967296 bytes with ") == 0);
  }
  const size_t many = held.size();
  CHECK(many > 1);
  held.clear();
  CHECK(memory_stats(Device::cuda()).in_use == in_use);
  held.push_back(empty({static_cast<int64_t>(many) * (int64_t{4} << 30)}, uint8));
  held.clear();
  CHECK(sum(mul(x, 3)).item() == 3000);
  empty_cache(Device::cuda());
}

TEST_CASE("cuda: a fault in a kernel is thrown by the next call that waits, once, with its text") {
  NEEDS_GPU();
  const Tensor table = randn({5, 3}), rows = tensor(std::vector<int64_t>{1, 7, 2});
  const Tensor y = index_select(table, 0, rows);  // nobody waits here
  const std::string message = message_of([&] { y.sum().item(); });
  CHECK(message.find("7") != std::string::npos);
  CHECK(message.find("out of range") != std::string::npos);
  CHECK(sum(ones({4})).item() == 4);
  cuda::synchronize();
}

TEST_CASE("cuda: two streams work side by side, ordered by events") {
  NEEDS_GPU();
  const Tensor a = randn({512, 512}), b = randn({512, 512});
  const Tensor want = add(matmul(a, b), matmul(b, a));
  cuda::Stream left, right;
  cuda::Event left_done, right_done;
  Tensor x, y;
  for (int round = 0; round < 20; ++round) {
    {
      cuda::StreamScope scope(left);
      x = matmul(a, b);
      left_done.record();
    }
    {
      cuda::StreamScope scope(right);
      y = matmul(b, a);
      right_done.record();
    }
    left_done.stream_wait();
    right_done.stream_wait();
    CHECK(different_bits(add(x, y), want) == 0);
  }
  CHECK(left_done.reached());
}

TEST_CASE("cuda: a stream begins after what its thread had asked, and an event tells the time") {
  NEEDS_GPU();
  cuda::Stream side;
  const Tensor a = randn({2048, 2048});
  cuda::Timer timer;
  Tensor x = a;
  for (int i = 0; i < 10; ++i) x = mul(add(x, 1), 0.5);
  Tensor seen;
  cuda::Event done;
  {
    cuda::StreamScope scope(side);
    seen = x.clone();
    done.record();
  }
  done.wait();
  CHECK(done.reached());
  CHECK(different_bits(seen, x) == 0);
  const double ms = timer.milliseconds();
  CHECK(ms > 0);
  CHECK(ms < 1e4);
}

TEST_CASE("cuda: copies from and to page-locked memory need no waiting") {
  NEEDS_GPU();
  const Tensor host = arange(0, 1 << 18, 1, {.dtype = float32, .device = Device::cpu()});
  const Tensor pinned = pin_memory(host);
  CHECK(pinned.impl().storage->is_pinned());
  CHECK(pin_memory(pinned).same_as(pinned));
  const Tensor there = pinned.to(Device::cuda(), true);
  CHECK(different_bits(there, host) == 0);

  Tensor back = pin_memory(zeros({1 << 18}, {.device = Device::cpu()}));
  back.copy_(mul(there, 2), true);
  cuda::synchronize();
  CHECK(different_bits(back, mul(host, 2)) == 0);

  // A batch's buffer may go as soon as the copy is asked for: its memory is not handed out before the copy is done.
  std::vector<Tensor> batches;
  for (int i = 0; i < 50; ++i) {
    const Tensor batch = pin_memory(full({1 << 16}, i, {.device = Device::cpu()}));
    batches.push_back(batch.to(Device::cuda(), true));
  }
  for (int i = 0; i < 50; ++i) CHECK(batches[static_cast<size_t>(i)].sum().item() == 1.0 * i * (1 << 16));

  // Pageable memory is taken over before the call returns.
  Tensor page = ones({1 << 20}, {.device = Device::cpu()});
  const Tensor copy = page.to(Device::cuda(), true);
  page.fill_(7);
  CHECK(copy.sum().item() == 1 << 20);
  CHECK(message_of([&] { pin_memory(there); }) == "pin_memory: expected a tensor on the CPU, got one on cuda:0");
}

TEST_CASE("cuda: tensors are saved from the GPU and read to the CPU, or back") {
  NEEDS_GPU();
  const TemporaryFolder folder;
  const std::string path = folder / "two.safetensors";
  const Tensor x = randn({5, 7}), y = arange(9);
  save_safetensors(path, {{"x", x.t()}, {"y", y}});
  const NamedTensors host = load_safetensors(path), back = load_safetensors(path, Device::cuda());
  CHECK(host[0].second.device() == Device::cpu());
  CHECK(back[0].second.device() == Device::cuda());
  CHECK(different_bits(host[0].second, x.t()) == 0);
  CHECK(different_bits(back[1].second, y) == 0);
}

TEST_CASE("cuda: there are as many devices as there are") {
  NEEDS_GPU();
  const int n = cuda::device_count();
  const std::string want = concat("there is no device cuda:", n);
  CHECK(message_of([&] { empty({1}, float32, Device::cuda(n)); }).find(want) != std::string::npos);
  CHECK(message_of([&] { set_default_device(Device::cuda(n)); }).find(want) != std::string::npos);
}

TEST_CASE("cuda: a gradient from another device is an error that names both") {
  NEEDS_GPU();
  const Tensor x = ones({2}).requires_grad_(), dy = ones({2}, {.device = Device::cpu()});
  const Tensor y = mul(x, 2.0);
  CHECK(message_of([&] { grad({y}, {x}, {dy}); }) == "backward: the gradient is on cpu, the output on cuda:0");
  CHECK(message_of([&] { x.set_grad(dy); }) == "set_grad: the gradient is on cpu, the tensor on cuda:0");
  CHECK(grad({y}, {x}, {dy.to(x.device())})[0].sum().item() == 4);
}

TEST_CASE("cuda: copies between devices come in order") {
  NEEDS_GPU();
  if (cuda::device_count() < 2) {
    MESSAGE("there is one GPU: skipped");
    return;
  }
  Tensor x = ones({1 << 22});
  for (int i = 0; i < 5; ++i) {
    const Tensor there = mul(x, 2).to(Device::cuda(1));
    x = add(there, 1).to(Device::cuda(0));
  }
  CHECK(x.device() == Device::cuda(0));
  CHECK(x.sum().item() == double{63} * (1 << 22));
}

TEST_CASE("cuda: optimisers walk many tensors, odd sizes and offsets as the CPU does") {
  NEEDS_GPU();
  for (const DType gradient : {float32, bfloat16}) {
    Tensors params[2], grads[2], m[2], v[2];
    for (int i = 0; i < 600; ++i) {  // more than fit in one launch
      const int64_t n = i == 7 ? 70001 : i % 5 == 0 ? 1 : 3 + 13 * i % 97;
      Generator g(static_cast<uint64_t>(i));
      const TensorOptions host{.device = Device::cpu()};
      const Tensor p = randn({n + 1}, host, g), d = randn({n + 1}, host, g);
      for (int k = 0; k < 2; ++k) {
        const Device device = k ? Device::cuda() : Device::cpu();
        const int64_t first = i % 3 == 1;  // a start that is not aligned
        params[k].push_back(p.clone().to(device).slice(0, first, first + n));
        grads[k].push_back(d.to(gradient).to(device).slice(0, first, first + n));
        m[k].push_back(zeros({n}, {.device = device}));
        v[k].push_back(zeros({n}, {.device = device}));
      }
    }
    double norm[2];
    for (int k = 0; k < 2; ++k) {
      const Tensor squares = sum_squares(grads[k]);
      norm[k] = squares.item();
      if (gradient == float32) clip_(grads[k], sqrt(squares), 10);
      for (int step = 1; step <= 3; ++step)
        adam_(params[k], grads[k], m[k], v[k], {.weight_decay = 0.1, .decoupled = true, .step = step});
      sgd_(params[k], grads[k], m[k], {.momentum = 0.9, .nesterov = true, .first = false});
      clip_value_(params[k], 1.5);
      ema_(v[k], params[k], 0.9);
    }
    CHECK(norm[1] == doctest::Approx(norm[0]).epsilon(1e-6));
    double worst = 0;
    for (size_t i = 0; i < 600; ++i) {
      for (Tensors* list : {params, m, v}) {
        const auto a = list[0][i].to_vector<double>(), b = list[1][i].to_vector<double>();
        for (size_t j = 0; j < a.size(); ++j) worst = std::max(worst, std::abs(a[j] - b[j]) / (1e-3 + std::abs(a[j])));
      }
    }
    CHECK(worst < 1e-4);
  }
}

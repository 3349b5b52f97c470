// weft inside a program: a function that the program needs, learned from examples, saved, loaded and served from
// several threads. The same lines work in a project that uses the installed package:
//
//   find_package(weft REQUIRED)
//   target_link_libraries(app PRIVATE weft::weft)
#include <weft/weft.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <thread>

using namespace weft;

// What a sensor reads for a temperature; the program wants the inverse.
double reading(double celsius) { return 0.4 * std::tanh(celsius / 60) + 0.002 * celsius; }

std::shared_ptr<Sequential> make_model() {
  return std::make_shared<Sequential>(std::make_shared<Linear>(1, 64), std::make_shared<Tanh>(),
                                      std::make_shared<Linear>(64, 1));
}

int main() {
  manual_seed(7);
  auto model = make_model();
  Adam optimizer(model->parameters(), {.lr = 1e-2});
  for (int step = 0; step < 8000; ++step) {
    const Tensor celsius = rand({256, 1}) * 100;
    std::vector<float> volts;
    for (float c : celsius.to_vector()) volts.push_back(static_cast<float>(reading(c)));
    const Tensor loss = mse_loss((*model)(tensor(volts, {256, 1})), celsius / 100);
    optimizer.zero_grad();
    loss.backward();
    optimizer.set_lr_scale(step < 5000 ? 1 : 0.05);
    optimizer.step();
  }

  // A file that Python's safetensors reads too.
  const auto path = std::filesystem::temp_directory_path() / "weft_sensor.safetensors";
  save_safetensors(path.string(), model->state_dict());
  auto served = make_model();
  served->load_state_dict(load_safetensors(path.string()));
  served->eval();
  std::filesystem::remove(path);

  // A model that is only read may be called from many threads at once.
  std::vector<std::thread> threads;
  std::vector<double> errors(4, 0);
  for (size_t t = 0; t < errors.size(); ++t) {
    threads.emplace_back([&, t] {
      NoGrad guard;
      for (double c = static_cast<double>(t); c < 100; c += 4) {
        const double predicted = (*served)(full({1, 1}, reading(c))).item() * 100;
        errors[t] = std::max(errors[t], std::abs(predicted - c));
      }
    });
  }
  for (auto& t : threads) t.join();
  const double worst = *std::max_element(errors.begin(), errors.end());
  std::printf("largest error between 0 and 100 degrees: %.2f\n", worst);
  return worst < 3 ? 0 : 1;
}

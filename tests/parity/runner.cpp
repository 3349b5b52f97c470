// weft_parity [--device cpu|cuda] [--dtype float64|float32|bfloat16] [--save DIR] FILE...
// --save: writes each case's weights, as this library saves them, to a file of the same name in DIR.
#include <weft/tensor/dtype.h>

#include <cstdio>
#include <string>
#include <vector>

#include "run_case.h"

namespace {

constexpr const char* kUsage =
    "usage: weft_parity [--device cpu|cuda] [--dtype float64|float32|bfloat16] [--save DIR] FILE...\n";

struct CommandLine {
  weft::parity::RunOptions options;
  std::vector<std::string> files;
};

CommandLine parse(const std::vector<std::string>& words) {
  CommandLine line;
  for (size_t i = 0; i < words.size(); ++i) {
    std::string name = words[i], value;
    const std::string option = name.substr(0, name.find('='));
    if (option != "--device" && option != "--dtype" && option != "--save") {
      weft::check(name.rfind("--", 0) != 0, "unknown option ", name);
      line.files.push_back(name);
      continue;
    }
    if (const size_t equals = name.find('='); equals != std::string::npos) {
      value = name.substr(equals + 1), name.resize(equals);
    } else {
      weft::check(i + 1 < words.size(), name, " needs a value");
      value = words[++i];
    }
    if (name == "--save") {
      line.options.save = value;
    } else if (name == "--device") {
      line.options.device = weft::device_from_name(value);
    } else {
      line.options.dtype = weft::dtype_from_name(value);
      weft::check(weft::is_floating(*line.options.dtype), "--dtype must be a floating dtype, got ", value);
    }
  }
  return line;
}

}  // namespace

int main(int argc, char** argv) {
  CommandLine line;
  try {
    line = parse({argv + 1, argv + argc});
    weft::check(!line.files.empty(), "no files given");
  } catch (const std::exception& e) {
    std::fprintf(stderr, "weft_parity: %s\n%s", e.what(), kUsage);
    return 2;
  }
  int passed = 0, failed = 0;
  for (const std::string& file : line.files) {
    const weft::parity::CaseResult result = weft::parity::run_case(file, line.options);
    ++(result.failure.empty() ? passed : failed);
    std::printf("%s\n", weft::parity::result_line(result, file).c_str());
    std::fflush(stdout);
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 && passed > 0 ? 0 : 1;
}

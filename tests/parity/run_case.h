// One parity case: read the file, build and run the module, compare with what the original computed.
#pragma once

#include <weft/tensor/tensor.h>

#include <optional>
#include <string>

namespace weft::parity {

struct RunOptions {
  Device device = Device::cpu();
  std::optional<DType> dtype = {};  ///< to compute in; the file's own if none
  std::string save = {};            ///< a folder that gets the module's weights in a file of the case's name
};

/// The worst relative error of each kind; negative where the file has nothing of that kind.
struct CaseResult {
  std::string module = "?";
  double out = -1, gin = -1, gparam = -1;
  std::string failure;  ///< empty if the case passed, else what differs or went wrong
};

/// Never throws: a file that cannot be read or run is a failure that says why.
CaseResult run_case(const std::string& path, const RunOptions& options);

/// The line for one case: "ok    flash_pytorch.GAU  out 3.1e-16  gin ...  file".
std::string result_line(const CaseResult& result, const std::string& path);

}  // namespace weft::parity

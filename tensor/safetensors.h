// Reading and writing tensors in the safetensors format: https://github.com/huggingface/safetensors
#pragma once

#include <weft/tensor/tensor.h>

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace weft {

/// Tensors with their names, in an order that is kept.
using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

/// A file opened for reading. It is mapped, not read: opening costs the header, and a tensor's pages are loaded when
/// they are first touched. Everything the header says is checked on opening; a file that breaks the format throws
/// weft::Error. Copies share the mapping, and so do the tensors, which keep it alive.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);
  /// The same for a file held in memory, which must live as long as the tensors: hand over its owner as keep, or see
  /// to it. name stands in error messages.
  SafetensorsFile(std::string_view bytes, std::shared_ptr<void> keep, const std::string& name = "memory");

  /// In the header's order.
  const std::vector<std::string>& names() const;
  const std::map<std::string, std::string>& metadata() const;
  bool contains(const std::string& name) const;
  DType dtype(const std::string& name) const;
  const Shape& shape(const std::string& name) const;
  /// A view of the file that refuses in-place writes; clone() it to change it. Data that is not aligned for its type
  /// is copied, and so are bools stored as anything but 0 and 1. Throws where there is no such tensor.
  Tensor tensor(const std::string& name) const;

 private:
  struct Contents;
  std::shared_ptr<const Contents> contents_;
};

/// All tensors of a file in the header's order: views of the mapped file on the CPU, copies on another device.
NamedTensors load_safetensors(const std::string& path, Device device = Device::cpu(),
                              std::map<std::string, std::string>* metadata = nullptr);

/// Writes tensors of any layout and device; names must be distinct and UTF-8. The header keeps their order. The file
/// appears whole or not at all: whatever was at path stays until the new file is on the disk.
void save_safetensors(const std::string& path, const NamedTensors& tensors,
                      const std::map<std::string, std::string>& metadata = {});

}  // namespace weft

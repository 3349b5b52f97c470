// Files as the library needs them: mapped for reading, and written whole or not at all.
#pragma once

#include <weft/tensor/error.h>

#include <cstddef>
#include <string>

namespace weft {

/// A regular file mapped into memory for reading. Another program that shortens the file meanwhile makes reads of the
/// lost part fatal (the system's rule for mappings); replacing the file by renaming, as OutputFile does, is safe.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const char* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  const char* data_ = nullptr;
  size_t size_ = 0;
};

/// Writes to a new file beside path and puts it in path's place on commit(), after its bytes have reached the disk: at
/// any moment path is what it was or all of the new file. Without commit() nothing remains.
class OutputFile {
 public:
  explicit OutputFile(const std::string& path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(const void* data, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void commit();

 private:
  std::string path_, temporary_;
  int fd_ = -1;
};

}  // namespace weft

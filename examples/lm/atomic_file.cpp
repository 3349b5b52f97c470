#include <fcntl.h>
#include <unistd.h>
#include <weft/examples/lm/atomic_file.h>
#include <weft/tensor/error.h>

#include <cerrno>
#include <cstring>
#include <fstream>

namespace weft::lm {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kSuffix = ".tmp";

fs::path temporary_name(const fs::path& path) { return path.string() + std::string(kSuffix); }

fs::path folder_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

void rename_and_sync(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  check(!error, "write: cannot rename ", from.string(), " to ", to.string(), ": ", error.message());
  sync_to_disk(folder_of(to));
}

}  // namespace

void sync_to_disk(const fs::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  check(descriptor >= 0, "sync: cannot open ", path.string(), ": ", std::strerror(errno));
  const int result = ::fsync(descriptor);
  const int reason = errno;
  ::close(descriptor);
  // Some file systems (network mounts) cannot sync a folder; that is not a reason to lose the run.
  check(result == 0 || reason == EINVAL || reason == ENOTSUP, "sync: ", path.string(), ": ", std::strerror(reason));
}

void write_file_atomically(const fs::path& path, std::string_view contents) {
  const fs::path temporary = temporary_name(path);
  {
    std::ofstream out(temporary, std::ios::binary | std::ios::trunc);
    out.write(contents.data(), static_cast<std::streamsize>(contents.size()));
    out.close();
    check(!out.fail(), "write: cannot write ", temporary.string(), ": ", std::strerror(errno));
  }
  sync_to_disk(temporary);
  rename_and_sync(temporary, path);
}

void write_folder_atomically(const fs::path& path, const std::function<void(const fs::path&)>& fill) {
  const fs::path temporary = temporary_name(path);
  std::error_code error;
  fs::remove_all(temporary, error);
  fs::create_directories(temporary, error);
  check(!error, "write: cannot make folder ", temporary.string(), ": ", error.message());
  fill(temporary);
  for (const auto& entry : fs::directory_iterator(temporary)) sync_to_disk(entry.path());
  sync_to_disk(temporary);
  fs::remove_all(path, error);
  check(!error, "write: cannot replace ", path.string(), ": ", error.message());
  rename_and_sync(temporary, path);
}

bool is_temporary(const fs::path& path) { return path.filename().string().ends_with(kSuffix); }

}  // namespace weft::lm

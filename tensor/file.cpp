#include <weft/tensor/file.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <system_error>

namespace weft {

namespace {

[[noreturn]] void fail_errno(const char* what, const std::string& path) {
  fail("file: cannot ", what, " ", path, ": ", std::generic_category().message(errno));
}

// Closes a descriptor at the end of a scope.
struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

MappedFile::MappedFile(const std::string& path) {
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};  // a pipe must not block
  if (file.fd < 0) fail_errno("open", path);
  struct stat info;
  if (::fstat(file.fd, &info) != 0) fail_errno("read", path);
  check(S_ISREG(info.st_mode), "file: ", path, " is not a regular file");
  size_ = static_cast<size_t>(info.st_size);
  if (size_ == 0) return;  // an empty mapping is an error
  void* p = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (p == MAP_FAILED) fail_errno("map", path);
  data_ = static_cast<const char*>(p);
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<char*>(data_), size_);
}

OutputFile::OutputFile(const std::string& path) : path_(path) {
  static std::atomic<unsigned> count{0};
  do {  // a name that nobody else uses; a crashed process with our id may have left some
    temporary_ = concat(path, ".tmp-", static_cast<int64_t>(::getpid()), "-", count.fetch_add(1));
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (fd_ < 0 && errno == EEXIST);
  if (fd_ < 0) fail_errno("write", path);
}

OutputFile::~OutputFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

void OutputFile::write(const void* data, size_t bytes) {
  const char* p = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = ::write(fd_, p, std::min<size_t>(bytes, size_t{1} << 30));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno("write", path_);
    p += n, bytes -= static_cast<size_t>(n);
  }
}

void OutputFile::commit() {
  if (::fsync(fd_) != 0) fail_errno("write", path_);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail_errno("write", path_);
  ::close(fd_);
  fd_ = -1;
  // The new name is on the disk once its folder is. Some file systems cannot do that: the file is whole all the same.
  const Descriptor folder{::open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (folder.fd >= 0) (void)::fsync(folder.fd);
}

}  // namespace weft

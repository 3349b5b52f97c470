// Files that are there whole or not at all, whatever moment the process is killed or the machine stops.
//
// The recipe: write under a temporary name in the same folder, fsync the data, rename over the final name (atomic on
// POSIX file systems), fsync the folder so that the new name itself survives a power cut.
#pragma once

#include <filesystem>
#include <functional>
#include <string_view>

namespace weft::lm {

// Replaces `path` by `contents`. Throws weft::Error naming the path and the system's reason.
void write_file_atomically(const std::filesystem::path& path, std::string_view contents);

// Makes the folder `path` with whatever `fill` writes into the temporary folder it is given (plain files, no
// subfolders). An older folder of that name is replaced. Readers see the old one, none, or the complete new one.
void write_folder_atomically(const std::filesystem::path& path,
                             const std::function<void(const std::filesystem::path& temporary)>& fill);

// True for names that an interrupted write left behind; the next writer may delete them.
bool is_temporary(const std::filesystem::path& path);

// Forces what the process wrote to a file (or a folder's list of names) down to the disk.
void sync_to_disk(const std::filesystem::path& path);

}  // namespace weft::lm

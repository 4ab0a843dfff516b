#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "format/gguf.hpp"
#include "model/model.hpp"

namespace gemlet {

/// Makes the model of a file. `tokens`: how many the tokenizer has. The file outlives the model.
using ModelFactory = std::function<std::unique_ptr<const Model>(const GgufFile& file, std::size_t tokens)>;

/// Registers an architecture from outside gemlet, or in the place of one of gemlet's. `name` is the file's
/// general.architecture. From any thread. A name that is registered again gets the new factory.
void register_architecture(const std::string& name, ModelFactory factory);

/// The names of all architectures, sorted.
std::vector<std::string> architectures();

/// Throws Error(unsupported), naming those that there are, for a file of another architecture. To be asked first: what
/// else such a file lacks is of no interest.
void require_architecture(const GgufFile& file);

/// The model of a file, by its general.architecture. Throws Error(unsupported) naming those that there are, and what
/// the factory throws.
std::unique_ptr<const Model> load_model(const GgufFile& file, std::size_t tokens);

}  // namespace gemlet

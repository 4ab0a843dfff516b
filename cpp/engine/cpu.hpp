#pragma once

namespace gemlet {

/// Physical cores this process may run on; at least 1. The second thread of a core shares its multipliers and its path
/// to memory, which is all that this work needs, so that it adds nothing.
int physical_cores();

}  // namespace gemlet

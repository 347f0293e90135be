"""Small tools that every room uses: files, memory sizes, progress, processes, tensors on disk."""

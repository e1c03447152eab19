"""Makes an image with distrobuilder and proves that it is one."""

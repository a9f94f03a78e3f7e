"""What a person looks at first, and how two who looked agree."""
